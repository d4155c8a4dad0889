//! Taking over a mount whose server has died, by the descriptor that somebody kept.
//!
//! Invariant: every request that the dead server had read and not answered is given again by the kernel, so none is lost.
//! What the kernel was told before (INIT, ENOSYS to OPEN, names for ever) holds: no answer of ours depends on it. A request
//! that came in the middle of INIT is answered as by the first.
//! Not here: who keeps the descriptor, and when there is a successor (whoever starts servers).

use std::path::Path;

use rustix::io::Errno;

use super::server::Server;
use super::wire::{NOTIFY_RESEND, Reply};
use crate::error::{Error, Result};

impl Server {
    /// Let the kernel give again what a server before this one did not answer. Before `serve`; the other server must be
    /// gone, all its threads too. Of a mount that has ended meanwhile nothing comes, and `serve` returns at once.
    ///
    /// # Errors
    /// `Mount` when the kernel cannot (before Linux 6.9).
    pub fn take_over(&self, place: &Path) -> Result<()> {
        let refused = |why: String| Error::Mount { place: place.to_path_buf(), why };
        let Some(device) = &self.device else { return Err(refused("libfuse lets nobody take over".into())) };
        match rustix::io::write(device, Reply::new().finish(0, -NOTIFY_RESEND)) {
            Ok(_) => Ok(()),
            Err(Errno::INVAL) => {
                Err(refused("nobody can take over from its server that died: that needs Linux 6.9".into()))
            }
            Err(error) => Err(refused(format!("cannot take over from its server that died: {error}"))),
        }
    }
}
