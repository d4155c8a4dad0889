//! Readers that get signals while they wait.

use std::os::unix::process::ExitStatusExt;
use std::os::unix::thread::JoinHandleExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::noise;
use super::world::{Act, Mounted, Tree};

/// A mount of one file, `d/file`, of which not even the name is here before the gate opens.
fn held() -> Mounted {
    let mut tree = Tree::new();
    tree.directory("d");
    tree.file("d/file", noise(1, 400_000));
    Mounted::acting(tree.store(), |_| Act::Hold)
}

/// Until the kernel has told of a signal after so many requests.
fn until_interrupted(mounted: &Mounted, requests: u64) {
    while mounted.server.stats().requests <= requests {
        assert!(!mounted.wanted.is_closed(), "the watchdog ended the mount");
        std::thread::yield_now();
    }
}

/// That somebody does not give up shows only by looking for a while: for some of the server's ticks.
fn is_still_waiting(mounted: &Mounted) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(300) && mounted.server.stats().waiting == 1 {
        std::thread::sleep(Duration::from_millis(5));
    }
    mounted.server.stats().waiting == 1
}

#[test]
fn who_handles_a_signal_and_goes_on_gets_what_he_waits_for() {
    extern "C" fn handle(_signal: i32) {}
    // SAFETY: the handler does nothing, and nothing else in the tests uses this signal.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handle as extern "C" fn(i32) as usize;
        assert_eq!(libc::sigaction(libc::SIGUSR2, &action, std::ptr::null_mut()), 0);
    }
    let mounted = held();
    let path = mounted.path("d/file");
    let reader = std::thread::spawn(move || std::fs::symlink_metadata(path).map(|found| found.len()));
    mounted.until_waiting(1);
    let requests = mounted.server.stats().requests;
    // SAFETY: the thread was not joined yet.
    unsafe { libc::pthread_kill(reader.as_pthread_t(), libc::SIGUSR2) };
    until_interrupted(&mounted, requests);
    assert!(is_still_waiting(&mounted));
    mounted.gate.open();
    assert_eq!(reader.join().unwrap().unwrap(), 400_000);
}

#[test]
fn who_was_stopped_and_goes_on_can_still_be_ended() {
    for (signal, number) in [(Signal::INT, libc::SIGINT), (Signal::KILL, libc::SIGKILL)] {
        let mounted = held();
        let mut waiting = Command::new("stat").arg(mounted.path("d/file")).stdout(Stdio::null()).spawn().unwrap();
        mounted.until_waiting(1);
        let (pid, requests) = (Pid::from_child(&waiting), mounted.server.stats().requests);
        kill_process(pid, Signal::STOP).unwrap();
        until_interrupted(&mounted, requests);
        kill_process(pid, Signal::CONT).unwrap();
        assert!(is_still_waiting(&mounted), "neither a stop nor its end is a reason to give up");
        kill_process(pid, signal).unwrap();
        assert_eq!(waiting.wait().unwrap().signal(), Some(number));
        // Not because the watchdog took the mount away from under it.
        rustix::fs::statvfs(&mounted.place).unwrap();
    }
}
