//! Whether who waits for an answer is to be let go without it.
//!
//! The kernel interrupts a request at the first signal that its thread gets, whatever that signal does, and never again; and
//! of a request that we have read nobody is released before it is answered, not even by SIGKILL (`request_wait_answer` in
//! fs/fuse/dev.c). So who gives an error at every INTERRUPT makes `stat` fail at a timer or a stopped shell job, which no
//! local disk does, and who ignores them makes processes that cannot be killed. Fields: proc_pid_status(5).

use std::path::Path;
use std::sync::PoisonError;
use std::time::Duration;

use super::server::Server;
use super::wire::{Reply, Request};

/// How soon somebody is let go whom another signal ends than the one that the kernel told of.
const TICK: Duration = Duration::from_millis(100);
/// Asked to end, and to be heard even by one who catches it.
const ASKS: u64 = bit(libc::SIGHUP) | bit(libc::SIGINT) | bit(libc::SIGQUIT) | bit(libc::SIGTERM);
/// What neither ends nor is caught: ignored unless said otherwise, or a stop.
const SURVIVED: u64 = bit(libc::SIGCHLD)
    | bit(libc::SIGCONT)
    | bit(libc::SIGURG)
    | bit(libc::SIGWINCH)
    | bit(libc::SIGSTOP)
    | bit(libc::SIGTSTP)
    | bit(libc::SIGTTIN)
    | bit(libc::SIGTTOU);

const fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

/// Whether a signal waits for a thread that ends it, or asks it to end. Also where that cannot be told: the thread is in
/// another pid namespace (0), or /proc is of another one than this process, or is not there.
pub fn is_asked_to_end(thread: u32) -> bool {
    let own = std::fs::read_link("/proc/self");
    if own.is_ok_and(|own| own == Path::new(&std::process::id().to_string())) {
        let status = std::fs::read(Path::new("/proc").join(thread.to_string()).join("status"));
        status.ok().and_then(|status| ends(&String::from_utf8_lossy(&status))).unwrap_or(true)
    } else {
        true
    }
}

fn ends(status: &str) -> Option<bool> {
    let field = |name: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        u64::from_str_radix(value.trim(), 16).ok()
    };
    // Those of the thread, and those that any thread of its process may take.
    let pending = (field("SigPnd")? | field("ShdPnd")?) & !field("SigBlk")? & !field("SigIgn")?;
    Some(pending & (ASKS | !(SURVIVED | field("SigCgt")?)) != 0)
}

impl Server {
    pub(super) fn interrupt(&self, request: &Request, reply: &mut Reply) {
        let target = request.fields().u64().unwrap_or(0);
        if self.parked().signal(target) {
            self.signalled.notify_all();
        } else {
            // It is just being answered or parked by another thread: the kernel asks again if need be.
            self.send(reply, request.unique, libc::EAGAIN);
        }
    }

    /// Let those who got a signal go when it ends them, or another does later; until the server is stopped.
    pub(super) fn look_after_signalled(&self) {
        let mut reply = Reply::of(0);
        let mut parked = self.parked();
        while !parked.closed {
            let signalled = parked.signalled();
            if signalled.is_empty() {
                parked = self.signalled.wait(parked).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            drop(parked);
            for (unique, thread) in signalled {
                if is_asked_to_end(thread) && self.parked().take(unique).is_some() {
                    self.send(&mut reply, unique, libc::EINTR);
                }
            }
            parked = self.parked();
            if !parked.closed {
                parked = self.signalled.wait_timeout(parked, TICK).unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_a_thread_or_asks_it_to_is_told_from_what_it_survives() {
        let status = |pending: i32, blocked: u64, ignored: u64, caught: u64| {
            let [own, shared] = if pending % 2 == 0 { [bit(pending), 0] } else { [0, bit(pending)] };
            ends(&format!(
                "Name:\tSigPnd: 0\nSigQ:\t1/2\nSigPnd:\t{own:016x}\nShdPnd:\t{shared:016x}\nSigBlk:\t{blocked:016x}\n\
                 SigIgn:\t{ignored:016x}\nSigCgt:\t{caught:016x}\n"
            ))
            .unwrap()
        };
        let all = u64::MAX;
        for signal in [libc::SIGKILL, libc::SIGSEGV, libc::SIGPIPE, libc::SIGALRM, libc::SIGUSR1, libc::SIGVTALRM, 40] {
            assert!(status(signal, 0, 0, 0), "{signal}");
            assert!(signal == libc::SIGKILL || !status(signal, 0, 0, all), "{signal}, caught");
        }
        for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM] {
            assert!(status(signal, 0, 0, 0) && status(signal, 0, 0, all), "{signal}");
            assert!(!status(signal, all, 0, 0) && !status(signal, 0, all, 0), "{signal}, blocked or ignored");
        }
        for signal in [libc::SIGCHLD, libc::SIGWINCH, libc::SIGURG, libc::SIGSTOP, libc::SIGTSTP, libc::SIGCONT] {
            assert!(!status(signal, 0, 0, 0), "{signal}");
        }
        assert_eq!(ends("State:\tR\n"), None);
    }

    #[test]
    fn of_a_thread_that_is_not_seen_it_is_said_to_be_asked() {
        assert!(is_asked_to_end(0));
        assert!(!is_asked_to_end(std::process::id()));
    }
}
