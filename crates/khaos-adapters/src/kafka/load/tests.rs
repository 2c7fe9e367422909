use super::*;

const SOURCE: &str = "Source__events";
const ALL: Span = Span { from: Timestamp(0), to: Timestamp(i64::MAX) };

fn values(series: &Series) -> Vec<(i64, f64)> {
    series.samples().iter().map(|s| (s.at.0 / 1_000, s.value)).collect()
}

fn lags(log: &Log, positions: &Positions) -> Vec<(i64, f64)> {
    values(&lag(log, positions, SOURCE, "a_b", ALL))
}

/// Two partitions get 100/s each. The job has read all but 50 of each at 10 s and at 20 s, is killed at
/// 22 s, noticed at 27 s, runs again from the checkpoint of 18 s at 32 s, and is heard of at 35 s.
#[test]
fn the_lag_by_hand_through_a_failure() {
    let ticks: Vec<(i64, [i64; 2])> = (1..=9).map(|i| (5 * i, [500 * i, 500 * i])).collect();
    let ticks: Vec<(i64, &[i64])> = ticks.iter().map(|(at, ends)| (*at, &ends[..])).collect();
    let log = Log::of(&ticks);
    let mut positions = Positions::default();
    let mut told = |now: f64, ran: f64, last: i64| {
        positions.tells(SOURCE, now, ran, &[("a_b", 0, last), ("a_b", 1, last)]);
    };
    told(10.0, 10.0, 949);
    told(20.0, 20.0, 1_949);
    assert_eq!(lags(&log, &positions), [(10, 100.0), (15, 100.0), (20, 100.0)]);
    positions.is_down(27.0);
    let down = [(10, 100.0), (15, 100.0), (20, 100.0), (25, 1_100.0)];
    assert_eq!(lags(&log, &positions), down);
    let mut told = |now: f64, ran: f64, last: i64| {
        positions.tells(SOURCE, now, ran, &[("a_b", 0, last), ("a_b", 1, last)]);
    };
    told(35.0, 3.0, 2_399);
    told(45.0, 13.0, 4_399);
    // Until 32 s it was down; at 35 s 1,100 of each are missing, half-way to 45 s 3,400 of 4,000 read.
    let after = [(30, 2_100.0), (35, 2_200.0), (40, 1_200.0), (45, 200.0)];
    assert_eq!(lags(&log, &positions), [&down[..], &after[..]].concat());
    // What arrived is known throughout.
    assert_eq!(values(&log.arrival(ALL)), (2..=9).map(|i| (5 * i, 200.0)).collect::<Vec<_>>());
}

#[test]
fn a_partition_that_nobody_tells_makes_the_lag_unknown() {
    let log = Log::of(&[(5, &[500, 0]), (10, &[1_000, 0]), (15, &[1_500, 1])]);
    let mut positions = Positions::default();
    for i in 1..=3 {
        let at = 5.0 * f64::from(i);
        positions.tells(SOURCE, at, at, &[("a_b", 0, 500 * i64::from(i) - 11), ("a_b", 1, -1)]);
    }
    // An empty partition needs no telling; the event in it at 15 s has not been read, as far as is known.
    assert_eq!(lags(&log, &positions), [(5, 10.0), (10, 10.0)]);
    let without = Log::of(&[(5, &[500, 7])]);
    assert_eq!(lags(&without, &positions), []);
    let unheard = Log::of(&[(5, &[500, 0, 3])]);
    assert_eq!(lags(&unheard, &positions), []);
}

/// Nothing arrives in partition 1, so that the second life of the source says −1 of it for ever.
#[test]
fn what_an_earlier_life_had_read_to_the_end_does_not_wait() {
    let log = Log::of(&[(5, &[500, 7]), (10, &[1_000, 7]), (15, &[1_500, 7]), (20, &[2_000, 8])]);
    let mut positions = Positions::default();
    positions.tells(SOURCE, 5.0, 5.0, &[("a_b", 0, 499), ("a_b", 1, 6)]);
    positions.tells(SOURCE, 10.0, 2.0, &[("a_b", 0, 799), ("a_b", 1, -1)]);
    positions.tells(SOURCE, 15.0, 7.0, &[("a_b", 0, 1_499), ("a_b", 1, -1)]);
    positions.tells(SOURCE, 20.0, 12.0, &[("a_b", 0, 1_999), ("a_b", 1, -1)]);
    assert_eq!(lags(&log, &positions), [(5, 0.0), (10, 200.0), (15, 0.0)]);
}

#[test]
fn offsets_of_a_topic_that_is_gone_say_nothing_of_the_next_one() {
    let log = Log::of(&[(5, &[500]), (10, &[20]), (15, &[800]), (20, &[900])]);
    let mut positions = Positions::default();
    positions.tells(SOURCE, 5.0, 5.0, &[("a_b", 0, 499)]);
    positions.is_down(12.0);
    assert_eq!(lags(&log, &positions), [(5, 0.0)]);
    // 500 would be possible at 15 s, but is from before.
    positions.is_down(15.0);
    assert_eq!(lags(&log, &positions), [(5, 0.0)]);
    positions.tells(SOURCE, 20.0, 3.0, &[("a_b", 0, 849)]);
    assert_eq!(lags(&log, &positions), [(5, 0.0), (20, 50.0)]);
    // A source that goes on with what was is not one that has read everything.
    let mut positions = Positions::default();
    positions.tells(SOURCE, 10.0, 10.0, &[("a_b", 0, 499)]);
    assert_eq!(lags(&log, &positions), []);
}

#[test]
fn before_the_first_report_only_what_arrives_is_known() {
    let log = Log::of(&[(5, &[500]), (10, &[1_000])]);
    let sources = of_topic("a.b", &log, &Positions::default(), ALL);
    assert_eq!(sources.len(), 1);
    assert_eq!((sources[0].name.as_str(), values(&sources[0].arrival)), ("a.b", vec![(10, 100.0)]));
    assert_eq!(sources[0].lag, Series::default());
}

#[test]
fn each_source_that_reads_a_topic_gets_all_of_it() {
    let log = Log::of(&[(5, &[500]), (10, &[1_000])]);
    let mut positions = Positions::default();
    positions.tells("Source__a", 10.0, 10.0, &[("a_b", 0, 989)]);
    positions.tells("Source__b", 10.0, 10.0, &[("a_b", 0, 979)]);
    positions.tells("Source__c", 10.0, 10.0, &[("c", 0, 5)]);
    let sources = of_topic("a.b", &log, &positions, ALL);
    let names: Vec<&str> = sources.iter().map(|source| source.name.as_str()).collect();
    assert_eq!(names, ["a.b in Source__a", "a.b in Source__b"]);
    let readings = Readings { sources, ..Readings::default() };
    assert_eq!(values(&readings.arrival()), [(10, 200.0)]);
    assert_eq!(values(&readings.lag()), [(10, 30.0)]);
}

fn other(name: &str, samples: &[(i64, f64)]) -> SourceReadings {
    let sample = |&(at, value): &(i64, f64)| Sample { at: Timestamp(at), value };
    let series = Series::new(samples.iter().map(sample));
    SourceReadings { name: name.to_owned(), arrival: series.clone(), lag: series }
}

#[test]
fn a_source_that_is_none_of_kafka_is_added_at_the_same_instants() {
    let inner = Readings {
        sources: vec![other(
            "Source__files-1",
            &[(5_001, 1.0), (9_999, 2.0), (10_000, 3.0), (12_000, 4.0)],
        )],
        ..Readings::default()
    };
    let span = Span { from: Timestamp(10_000), to: Timestamp(15_001) };
    let found = of_other("Source: files-1", &inner, span);
    assert_eq!(values(&found.arrival), [(10, 3.0), (15, 4.0)]);
    assert_eq!(values(&found.lag), [(10, 3.0), (15, 4.0)]);
    let within = Span { from: Timestamp(10_000), to: Timestamp(15_000) };
    assert_eq!(values(&of_other("Source: files-1", &inner, within).lag), [(10, 3.0)]);
    // One that is not there makes the sum unknown, not smaller.
    let missing = of_other("Source: gone", &inner, span);
    assert_eq!(missing.lag, Series::default());
}

#[test]
fn what_the_job_does_not_read_is_told_from_what_it_reads() {
    let mut positions = Positions::default();
    let reads = Reads {
        topics: vec!["a.b".to_owned(), "c".to_owned()],
        other_sources: vec!["Source: files".to_owned()],
    };
    let misfits = |positions: &Positions| {
        let sources = [SOURCE, "Source__files", "Source__more"].into_iter();
        misfits(&reads, sources, &positions.readers())
    };
    assert_eq!(misfits(&positions), Vec::<String>::new(), "nobody has told yet");
    positions.tells(SOURCE, 5.0, 5.0, &[("a_b", 0, 1), ("d", 0, 1)]);
    let told = misfits(&positions);
    assert_eq!(told.len(), 3, "{told:?}");
    for (what, says) in told.iter().zip(["the topic 'c'", "the topic 'd'", "Source__more reads no"])
    {
        assert!(what.contains(says), "{what}");
    }
}
