//! The extension module `sapwood._core`: a file a room, each a submodule. No logic: arguments in, values out.

mod archive;
mod collect;
mod copy;
mod digest;
mod direct;
mod directory;
mod enter;
mod errors;
mod filemap;
mod index;
mod layers;
mod mount;
mod pull;
mod push;
mod regzip;
mod seek;
mod serve;
mod stargz;
mod tree;
mod upkeep;
mod values;
mod watch;

use pyo3::prelude::*;

#[pymodule]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    archive::register(module)?;
    collect::register(module)?;
    copy::register(module)?;
    digest::register(module)?;
    direct::register(module)?;
    directory::register(module)?;
    filemap::register(module)?;
    index::register(module)?;
    layers::register(module)?;
    mount::register(module)?;
    pull::register(module)?;
    push::register(module)?;
    regzip::register(module)?;
    seek::register(module)?;
    serve::register(module)?;
    stargz::register(module)?;
    tree::register(module)?;
    upkeep::register(module)?;
    watch::register(module)?;
    // `import sapwood._core.tree` must find what `from sapwood._core import tree` does.
    let modules = module.py().import("sys")?.getattr("modules")?;
    for name in [
        "archive",
        "collect",
        "copy",
        "digest",
        "direct",
        "directory",
        "filemap",
        "index",
        "layers",
        "mount",
        "pull",
        "push",
        "regzip",
        "seek",
        "serve",
        "stargz",
        "tree",
        "upkeep",
        "watch",
    ] {
        modules.set_item(format!("sapwood._core.{name}"), module.getattr(name)?)?;
    }
    Ok(())
}
