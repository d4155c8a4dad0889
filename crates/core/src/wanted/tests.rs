use std::sync::Arc;
use std::time::Duration;

use super::*;

const NOW: Duration = Duration::ZERO;
const ANY: Class = Class::Background;

fn frame(pack: u8, offset: u64, length: u32) -> FrameAt {
    FrameAt { pack: Arc::new([pack; 32]), offset, length, plain: length }
}

fn offsets(batch: &[Want]) -> Vec<u64> {
    batch.iter().map(|want| want.frame.offset).collect()
}

#[test]
fn demand_goes_before_readahead_and_that_before_background_first_come_first_served() {
    let wanted = Wanted::default();
    for (pack, class) in [(1, Class::Background), (2, Class::Readahead), (3, Class::Demand), (4, Class::Demand)] {
        assert!(wanted.want(&frame(pack, 0, 10), class));
    }
    let packs: Vec<u8> = (0..4).map(|_| wanted.take(9, 1 << 20, ANY, NOW)[0].frame.pack[0]).collect();
    assert_eq!(packs, [3, 4, 2, 1]);
    assert_eq!(wanted.counts().taken, [2, 1, 0, 1]);
    assert!(wanted.take(9, 1 << 20, ANY, NOW).is_empty());
}

#[test]
fn a_frame_asked_for_many_times_is_fetched_once() {
    let wanted = Wanted::default();
    let it = frame(1, 0, 10);
    assert!(wanted.want(&it, Class::Demand));
    assert!(!wanted.want(&it, Class::Demand));
    assert_eq!(wanted.take(9, 100, ANY, NOW).len(), 1);
    assert!(!wanted.want(&it, Class::Demand));
    assert!(wanted.take(9, 100, ANY, NOW).is_empty());
    wanted.done(&it);
    assert_eq!(wanted.counts().joined, 2);
    assert!(wanted.want(&it, Class::Demand), "once it was brought it may be wanted again");
}

#[test]
fn who_asks_more_urgently_raises_what_is_queued() {
    let wanted = Wanted::default();
    wanted.want(&frame(1, 0, 10), Class::Background);
    wanted.want(&frame(2, 0, 10), Class::Background);
    wanted.want(&frame(2, 0, 10), Class::Demand);
    wanted.want(&frame(2, 0, 10), Class::Readahead);
    let batch = wanted.take(9, 100, Class::Demand, NOW);
    assert_eq!((batch.len(), batch[0].class, batch[0].frame.pack[0]), (1, Class::Demand, 2));
    assert!(wanted.take(9, 100, Class::Readahead, NOW).is_empty(), "this taker keeps away from background");
}

#[test]
fn neighbours_in_a_pack_come_together_sorted_and_within_bounds() {
    let wanted = Wanted::default();
    for offset in [2000, 1000, 3000, 500_000, 0] {
        wanted.want(&frame(1, offset, 1000), Class::Readahead);
    }
    wanted.want(&frame(2, 4000, 1000), Class::Readahead);
    wanted.want(&frame(1, 4000, 1000), Class::Background);
    assert_eq!(offsets(&wanted.take(9, 1 << 20, ANY, NOW)), [0, 1000, 2000, 3000]);
    assert_eq!(offsets(&wanted.take(9, 1 << 20, ANY, NOW)), [500_000]);
    for offset in [0, 1000, 2000] {
        wanted.fail(&frame(1, offset, 1000));
        wanted.want(&frame(1, offset, 1000), Class::Demand);
    }
    assert_eq!(offsets(&wanted.take(9, 2500, ANY, NOW)), [0, 1000]);
    assert_eq!(offsets(&wanted.take(9, 1, ANY, NOW)), [2000], "one frame comes however large");
}

#[test]
fn what_nobody_waits_for_leaves_the_link_free_while_a_demand_is_in_flight() {
    let wanted = Wanted::new(Limits { idle: 3000, busy: 1000, ..Limits::default() });
    for offset in 0..9 {
        let class = if offset < 2 { Class::Readahead } else { Class::Background };
        wanted.want(&frame(1, offset * 1000, 1000), class);
    }
    assert_eq!(wanted.take(9, 1 << 20, ANY, NOW).len(), 2);
    assert_eq!(wanted.take(9, 1 << 20, ANY, NOW).len(), 1);
    assert!(wanted.take(9, 1 << 20, ANY, NOW).is_empty());
    let urgent = frame(2, 0, 50);
    wanted.want(&urgent, Class::Demand);
    assert_eq!(wanted.take(9, 1 << 20, ANY, NOW)[0].frame, urgent);
    for offset in 0..2 {
        wanted.done(&frame(1, offset * 1000, 1000));
    }
    assert!(wanted.take(9, 1 << 20, ANY, NOW).is_empty());
    wanted.done(&frame(1, 2000, 1000));
    assert_eq!(wanted.take(9, 1 << 20, ANY, NOW).len(), 1);
    wanted.done(&urgent);
    assert_eq!(wanted.take(9, 1 << 20, ANY, NOW).len(), 2);
}

#[test]
fn background_waits_for_the_quiet_after_a_demand() {
    let wanted = Wanted::new(Limits { quiet: Duration::from_secs(3600), ..Limits::default() });
    wanted.want(&frame(1, 0, 10), Class::Background);
    wanted.want(&frame(2, 0, 10), Class::Background);
    assert_eq!(wanted.take(1, 100, ANY, NOW).len(), 1, "before the first demand it is quiet");
    wanted.want(&frame(3, 0, 10), Class::Demand);
    wanted.want(&frame(4, 0, 10), Class::Readahead);
    let packs: Vec<u8> = (0..2).map(|_| wanted.take(9, 100, ANY, NOW)[0].frame.pack[0]).collect();
    assert_eq!(packs, [3, 4]);
    wanted.done(&frame(3, 0, 10));
    assert!(wanted.take(9, 100, ANY, NOW).is_empty());
    wanted.set_limits(Limits::default());
    assert_eq!(wanted.take(9, 100, ANY, NOW).len(), 1);
}

#[test]
fn a_background_fetch_that_becomes_a_demand_counts_as_one() {
    let wanted = Wanted::new(Limits { idle: 3000, busy: 0, ..Limits::default() });
    for offset in [0, 500_000] {
        wanted.want(&frame(1, offset, 1000), Class::Background);
    }
    assert_eq!(wanted.take(1, 1000, ANY, NOW).len(), 1);
    wanted.want(&frame(1, 0, 1000), Class::Demand);
    assert!(wanted.take(1, 1000, ANY, NOW).is_empty());
    wanted.fail(&frame(1, 0, 1000));
    assert_eq!(wanted.take(1, 1000, ANY, NOW).len(), 1);
}

#[test]
fn who_waits_is_woken_by_a_want_and_by_the_end() {
    let wanted = Arc::new(Wanted::default());
    let taker = {
        let wanted = wanted.clone();
        std::thread::spawn(move || {
            let first = wanted.take(1, 100, Class::Demand, Duration::from_secs(60));
            let second = wanted.take(1, 100, ANY, Duration::from_secs(60));
            (first.len(), second.len())
        })
    };
    wanted.want(&frame(1, 0, 10), Class::Demand);
    while wanted.counts().taken[0] == 0 {
        std::thread::yield_now();
    }
    let filler = {
        let wanted = wanted.clone();
        std::thread::spawn(move || wanted.wait_for_room(0))
    };
    wanted.close();
    assert_eq!(taker.join().unwrap(), (1, 0));
    assert!(!filler.join().unwrap());
    assert!(wanted.is_closed());
}

#[test]
fn a_profile_goes_before_background_and_waits_for_no_silence() {
    let wanted = Wanted::new(Limits { quiet: Duration::from_secs(3600), ..Limits::default() });
    wanted.want(&frame(1, 0, 10), Class::Background);
    wanted.want(&frame(2, 0, 10), Class::Profile);
    wanted.want(&frame(3, 0, 10), Class::Readahead);
    wanted.want(&frame(4, 0, 10), Class::Demand);
    let classes: Vec<Class> = (0..4).flat_map(|_| wanted.take(9, 1 << 20, ANY, NOW)).map(|want| want.class).collect();
    assert_eq!(classes, [Class::Demand, Class::Readahead, Class::Profile], "background waits until nobody asks");
    assert!(!wanted.has_queued(Class::Profile));
}
