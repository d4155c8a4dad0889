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
fn what_nobody_waits_for_comes_only_while_little_is_in_flight() {
    let wanted = Wanted::new(3000, (9, 9));
    for offset in 0..9 {
        let class = if offset < 2 { Class::Readahead } else { Class::Background };
        wanted.want(&frame(1, offset * 1000, 1000), class);
    }
    assert_eq!(wanted.take(9, 1 << 20, ANY, NOW).len(), 2);
    assert_eq!(wanted.take(9, 1 << 20, ANY, NOW).len(), 1);
    assert!(wanted.take(9, 1 << 20, ANY, NOW).is_empty());
    let urgent = frame(2, 0, 1500);
    wanted.want(&urgent, Class::Demand);
    assert_eq!(wanted.take(9, 1 << 20, ANY, NOW)[0].frame, urgent, "a demand goes at once");
    wanted.done(&frame(1, 0, 1000));
    assert!(wanted.take(9, 1 << 20, ANY, NOW).is_empty(), "and is in flight as well");
    wanted.landed([&urgent].into_iter());
    wanted.want(&urgent, Class::Demand);
    assert_eq!(wanted.take(9, 1 << 20, ANY, NOW).len(), 1);
    wanted.set_in_flight(5000);
    assert_eq!(wanted.take(9, 1 << 20, ANY, NOW).len(), 2);
}

#[test]
fn what_nobody_waits_for_is_asked_for_by_whole_requests_but_for_what_a_profile_names() {
    for (class, taken) in [(Class::Readahead, 0), (Class::Background, 0), (Class::Profile, 1), (Class::Demand, 1)] {
        let wanted = Wanted::new(4000, (9, 9));
        wanted.want(&frame(1, 0, 3001), Class::Background);
        assert_eq!(wanted.take(9, 1 << 20, ANY, NOW).len(), 1);
        wanted.want(&frame(1, 1 << 20, 500), class);
        assert_eq!(wanted.take(9, 1 << 20, ANY, NOW).len(), taken, "{class:?}: less than a quarter is free");
        wanted.done(&frame(1, 0, 3001));
        assert_eq!(wanted.take(9, 1 << 20, ANY, NOW).len(), 1 - taken, "{class:?}");
    }
}

#[test]
fn what_the_last_demand_made_likely_goes_first() {
    let wanted = Wanted::default();
    for pack in [1, 2, 3] {
        wanted.want(&frame(pack, 0, 10), Class::Demand);
        for offset in [1 << 20, 2 << 20] {
            wanted.want(&frame(pack, offset, 10), Class::Readahead);
        }
    }
    wanted.want(&frame(1, 2 << 20, 10), Class::Readahead);
    let order: Vec<(u8, u64)> = std::iter::from_fn(|| wanted.take(1, 1 << 20, ANY, NOW).pop())
        .map(|want| (want.frame.pack[0], want.frame.offset >> 20))
        .collect();
    assert_eq!(order, [(1, 0), (2, 0), (3, 0), (3, 1), (3, 2), (1, 2), (2, 1), (2, 2), (1, 1)]);
}

#[test]
fn frames_asked_for_together_are_woken_for_once_and_come_in_their_order() {
    let wanted = Wanted::default();
    let frames = [frame(3, 0, 10), frame(1, 0, 10), frame(2, 0, 10)];
    wanted.want_all(frames.iter(), Class::Profile);
    let packs: Vec<u8> = (0..3).map(|_| wanted.take(9, 1 << 20, ANY, NOW)[0].frame.pack[0]).collect();
    assert_eq!(packs, [3, 1, 2]);
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
        std::thread::spawn(move || wanted.wait_for_room(0, 0))
    };
    wanted.close();
    assert_eq!(taker.join().unwrap(), (1, 0));
    assert!(!filler.join().unwrap());
    assert!(wanted.is_closed());
}

fn wait_for_takers(wanted: &Wanted, number: usize) {
    while wanted.lock().waiting.iter().sum::<usize>() < number {
        std::thread::yield_now();
    }
}

#[test]
fn of_those_who_wait_one_is_woken_the_choosiest_who_may_take_what_goes_next() {
    let wanted = Wanted::new(10, (9, 9));
    assert!(wanted.want(&frame(1, 0, 10), Class::Background));
    assert_eq!(wanted.lock().next_taker(), None, "nobody waits");
    wanted.lock().waiting = [2, 0, 0, 1];
    assert_eq!(wanted.lock().next_taker(), Some(3));
    wanted.want(&frame(2, 0, 10), Class::Demand);
    assert_eq!(wanted.lock().next_taker(), Some(0));
    wanted.lock().waiting = [0, 0, 1, 1];
    assert_eq!(wanted.lock().next_taker(), Some(2));
    wanted.lock().waiting = [1, 0, 0, 1];
    assert_eq!(wanted.take(1, 10, ANY, NOW)[0].class, Class::Demand);
    assert_eq!(wanted.lock().next_taker(), None, "the link is full of what somebody waits for");
    wanted.landed([frame(2, 0, 10)].iter());
    assert_eq!(wanted.lock().next_taker(), Some(3));
    wanted.lock().waiting = [1, 0, 0, 0];
    assert_eq!(wanted.lock().next_taker(), None, "nobody takes what nobody waits for");
}

#[test]
fn whoever_was_woken_wakes_another_for_what_is_left() {
    let wanted = &Wanted::default();
    std::thread::scope(|scope| {
        let takers = [Class::Demand, ANY, ANY, Class::Profile]
            .map(|lowest| scope.spawn(move || wanted.take(1, 10, lowest, Duration::from_secs(600)).len()));
        wait_for_takers(wanted, takers.len());
        let frames: Vec<_> = (0..4).map(|pack| frame(pack, 0, 10)).collect();
        wanted.want_all(frames.iter(), Class::Demand);
        assert_eq!(takers.map(|taker| taker.join().unwrap()), [1; 4]);
    });
}

#[test]
fn who_waits_for_room_hears_of_it() {
    let wanted = Wanted::default();
    wanted.want(&frame(1, 0, 10), Class::Background);
    std::thread::scope(|scope| {
        let filler = scope.spawn(|| wanted.wait_for_room(1, 0));
        while wanted.lock().below.0 == 0 {
            std::thread::yield_now();
        }
        assert_eq!(wanted.take(1, 10, ANY, NOW).len(), 1);
        assert!(filler.join().unwrap());
    });
}

#[test]
fn a_profile_goes_before_background() {
    let wanted = Wanted::default();
    wanted.want(&frame(1, 0, 10), Class::Background);
    wanted.want(&frame(2, 0, 10), Class::Profile);
    wanted.want(&frame(3, 0, 10), Class::Readahead);
    wanted.want(&frame(4, 0, 10), Class::Demand);
    let classes: Vec<Class> = (0..4).flat_map(|_| wanted.take(9, 1 << 20, ANY, NOW)).map(|want| want.class).collect();
    assert_eq!(classes, [Class::Demand, Class::Readahead, Class::Profile, Class::Background]);
    assert!(!wanted.has_queued(Class::Profile));
}

#[test]
fn one_pack_never_has_all_who_fetch_and_leaves_some_for_who_waits() {
    let wanted = Wanted::new(1 << 40, (3, 2));
    for offset in 0..6 {
        wanted.want(&frame(1, offset << 20, 10), Class::Background);
        wanted.want(&frame(2, offset << 20, 10), Class::Background);
    }
    let take = |lowest| wanted.take(1, 1 << 20, lowest, NOW).pop().map(|want| want.frame);
    let packs: Vec<u8> = (0..4).filter_map(|_| take(ANY)).map(|frame| frame.pack[0]).collect();
    assert_eq!(packs, [1, 2, 1, 2]);
    assert_eq!(take(ANY), None);
    let demanded = [frame(1, 4 << 20, 10), frame(1, 5 << 20, 10)];
    wanted.want_all(demanded.iter(), Class::Demand);
    assert_eq!(take(ANY).as_ref(), Some(&demanded[0]));
    assert_eq!(take(ANY), None, "the pack has three");
    wanted.want(&frame(3, 0, 10), Class::Demand);
    assert_eq!(take(Class::Demand), Some(frame(3, 0, 10)), "another one is not behind it");
    wanted.done(&demanded[0]);
    assert_eq!(take(ANY).as_ref(), Some(&demanded[1]));
}

#[test]
fn what_was_taken_together_is_under_way_until_all_of_it_has_landed() {
    let wanted = Wanted::new(1 << 40, (1, 1));
    let (first, second) = (frame(1, 0, 10), frame(1, 10, 10));
    wanted.want_all([&first, &second].into_iter(), Class::Demand);
    assert_eq!(wanted.take(9, 1 << 20, ANY, NOW).len(), 2);
    wanted.want(&frame(1, 1 << 20, 10), Class::Demand);
    wanted.done(&first);
    assert!(wanted.take(9, 1 << 20, ANY, NOW).is_empty());
    wanted.landed([&second].into_iter());
    assert_eq!(wanted.take(9, 1 << 20, ANY, NOW).len(), 1, "who proves it asks nothing of the pack");
    wanted.want(&frame(1, 2 << 20, 10), Class::Demand);
    wanted.done(&second);
    assert!(wanted.take(9, 1 << 20, ANY, NOW).is_empty(), "what has landed is not counted twice");
}

#[test]
fn there_is_room_for_few_frames_or_for_few_bytes() {
    let wanted = Arc::new(Wanted::default());
    for number in 0..4 {
        wanted.want(&frame(number, 0, 10), Class::Background);
    }
    assert!(wanted.wait_for_room(5, 0), "they are few");
    assert!(wanted.wait_for_room(0, 41), "they are small");
    wanted.want(&frame(9, 0, 10), Class::Demand);
    wanted.want(&frame(3, 0, 10), Class::Demand);
    assert!(wanted.wait_for_room(0, 31), "only background counts");
    let filler = {
        let wanted = wanted.clone();
        std::thread::spawn(move || wanted.wait_for_room(3, 30))
    };
    while wanted.take(1, 1 << 20, Class::Demand, NOW).pop().is_some() {}
    assert!(!filler.is_finished());
    wanted.take(1, 1 << 20, ANY, NOW);
    assert!(filler.join().unwrap());
}

#[test]
fn the_link_is_free_of_what_is_silent_and_who_waits_for_it_still_waits() {
    let wanted = Wanted::new(1000, (9, 9));
    let silent = frame(1, 0, 1000);
    for pack in [1, 2] {
        wanted.want(&frame(pack, 0, 1000), Class::Background);
    }
    assert_eq!(wanted.take(9, 1 << 20, ANY, NOW)[0].frame, silent);
    assert!(wanted.take(9, 1 << 20, ANY, NOW).is_empty());
    wanted.silent([&silent].into_iter());
    assert_eq!(wanted.take(9, 1 << 20, ANY, NOW).len(), 1);
    assert!(!wanted.are_demanded([&silent].into_iter()));
    assert!(!wanted.want(&silent, Class::Demand), "it is not asked for twice");
    assert!(wanted.are_demanded([&silent].into_iter()));
    assert!(wanted.overdue(Instant::now()).contains(&silent.pack));
    wanted.landed([&silent].into_iter());
    assert!(!wanted.are_demanded([&silent].into_iter()));
    assert!(!wanted.overdue(Instant::now()).contains(&silent.pack));
    assert_eq!(wanted.counts().in_flight_bytes, [0, 0, 0, 1000]);
}

#[test]
fn overdue_is_what_was_asked_for_and_not_what_waits_behind_it() {
    let wanted = Wanted::new(1000, (1, 1));
    for (pack, offset) in [(1, 0), (1, 1 << 20), (2, 0)] {
        wanted.want(&frame(pack, offset, 10), Class::Demand);
    }
    let begun = Instant::now();
    assert_eq!(wanted.take(1, 1, ANY, NOW).len(), 1);
    assert!(wanted.overdue(begun).is_empty());
    assert_eq!(wanted.overdue(Instant::now()), HashSet::from([Arc::new([1; 32])]));
}
