//! All figures are computed by hand.

use std::io::{Read, Write};
use std::net::TcpListener;

use super::*;

/// One series of Prometheus: `(s, value)` of a subtask's attempt.
fn series(metric: &str, subtask: u32, attempt: &str, values: &[(f64, &str)]) -> Raw {
    let metric = Labels {
        metric: format!("flink_taskmanager_job_task_operator_{metric}"),
        subtask_index: subtask.to_string(),
        task_attempt_id: attempt.to_owned(),
        ..Labels::default()
    };
    Raw { metric, values: values.iter().map(|(at, v)| (*at, (*v).to_owned())).collect() }
}

/// Both counters of an attempt: `(s, read, pending)`.
fn counters(subtask: u32, attempt: &str, told: &[(f64, &str, &str)]) -> [Raw; 2] {
    let read: Vec<_> = told.iter().map(|(at, read, _)| (*at, *read)).collect();
    let pending: Vec<_> = told.iter().map(|(at, _, pending)| (*at, *pending)).collect();
    [
        series("numRecordsIn", subtask, attempt, &read),
        series("pendingRecords", subtask, attempt, &pending),
    ]
}

/// What a source of `subtasks` shows from 0 to 60 s.
fn read_off(subtasks: u32, attempts: impl IntoIterator<Item = [Raw; 2]>) -> Readings {
    let raw: Vec<Raw> = attempts.into_iter().flatten().collect();
    let counted = Counted { expected: (0..subtasks).collect(), subtasks: lives(&raw) };
    let longest = longest_line_ms(std::iter::once(&counted)).unwrap();
    let grid = grid(Span { from: Timestamp(0), to: Timestamp(60_000) });
    let operator = Operator { name: "Source:_a".into(), id: "x".into() };
    sum(vec![(operator, counted)], &grid, longest, Series::default())
}

fn told(series: &Series) -> Vec<(i64, f64)> {
    series.samples().iter().map(|s| (s.at.0 / 1_000, s.value)).collect()
}

#[test]
fn task_managers_that_are_scraped_at_different_times_still_sum() {
    // The one reads 1,000/s; the other reads 500/s and falls behind by 100/s.
    let one = counters(0, "a", &[(2.0, "2000", "0"), (7.0, "7000", "0"), (12.0, "12000", "0")]);
    let two = counters(1, "b", &[(4.0, "100", "0"), (9.0, "2600", "500"), (14.0, "5100", "1000")]);
    let readings = read_off(2, [one, two]);
    assert_eq!(readings.sources[0].name, "Source__a");
    // At 5 s both are between two scrapes, but what they were at 0 s is not known.
    assert_eq!(told(&readings.lag()), [(5, 100.0), (10, 600.0)]);
    assert_eq!(told(&readings.arrival()), [(10, 1_600.0)]);
    assert_eq!(told(&readings.throughput), [(10, 1_500.0)]);
}

#[test]
fn a_subtask_that_nobody_scrapes_makes_the_sum_missing() {
    let one = || counters(0, "a", &[(0.0, "0", "0"), (5.0, "500", "0"), (10.0, "1000", "0")]);
    assert_eq!(told(&read_off(1, [one()]).arrival()), [(5, 100.0), (10, 100.0)]);
    let readings = read_off(2, [one()]);
    assert_eq!((told(&readings.arrival()), told(&readings.lag())), (vec![], vec![]));
}

#[test]
fn nothing_is_told_of_the_time_between_two_lives_and_no_storm_after_it() {
    // Dies after 10 s, and begins again at 30 s with what has piled up since its checkpoint.
    let before = counters(0, "a", &[(0.0, "9000", "4"), (5.0, "9500", "4"), (10.0, "10000", "4")]);
    let after =
        counters(0, "b", &[(30.0, "0", "2600"), (35.0, "1500", "1600"), (40.0, "3000", "600")]);
    let readings = read_off(1, [before, after]);
    assert_eq!(
        told(&readings.lag()),
        [(0, 4.0), (5, 4.0), (10, 4.0), (30, 2_600.0), (35, 1_600.0), (40, 600.0)]
    );
    // (3000 − 1500 + 600 − 1600) / 5 = 100/s arrive while 300/s are read.
    assert_eq!(told(&readings.arrival()), [(5, 100.0), (10, 100.0), (35, 100.0), (40, 100.0)]);
    assert_eq!(told(&readings.throughput), [(5, 100.0), (10, 100.0), (35, 300.0), (40, 300.0)]);
}

#[test]
fn a_counter_that_falls_begins_another_life_where_attempts_are_not_labelled() {
    let both = counters(
        0,
        "",
        &[(0.0, "9000", "0"), (5.0, "9500", "0"), (10.0, "100", "900"), (15.0, "700", "800")],
    );
    let readings = read_off(1, [both]);
    assert_eq!(told(&readings.arrival()), [(5, 100.0), (15, 100.0)]);
}

#[test]
fn an_attempt_that_lingers_does_not_count_beside_its_successor() {
    let old = counters(0, "a", &[(0.0, "0", "0"), (5.0, "500", "7"), (10.0, "1000", "7")]);
    let new = counters(0, "b", &[(5.0, "0", "50"), (10.0, "400", "50")]);
    let readings = read_off(1, [old, new]);
    assert_eq!(told(&readings.lag()), [(0, 0.0), (5, 50.0), (10, 50.0)]);
    assert_eq!(told(&readings.throughput), [(10, 80.0)]);
}

#[test]
fn a_scrape_that_was_missed_leaves_a_hole() {
    let at = [0.0, 5.0, 10.0, 15.0, 20.0, 30.0, 35.0];
    let read: Vec<String> = at.iter().map(|at| format!("{}", at * 10.0)).collect();
    let scrapes: Vec<_> =
        at.iter().zip(&read).map(|(at, read)| (*at, read.as_str(), "1")).collect();
    let readings = read_off(1, [counters(0, "a", &scrapes)]);
    let instants: Vec<i64> = told(&readings.lag()).iter().map(|(at, _)| *at).collect();
    assert_eq!(instants, [0, 5, 10, 15, 20, 30, 35]);
    let instants: Vec<i64> = told(&readings.arrival()).iter().map(|(at, _)| *at).collect();
    assert_eq!(instants, [5, 10, 15, 20, 35]);
}

#[test]
fn who_scrapes_twice_sees_the_same_twice() {
    // Two scrapers, every 10 s each, the second one 2 s after the first: 100/s.
    let first = counters(0, "a", &[(0.0, "0", "0"), (10.0, "1000", "0"), (20.0, "2000", "0")]);
    let second = counters(0, "a", &[(2.0, "200", "0"), (12.0, "1200", "0"), (22.0, "2200", "0")]);
    let readings = read_off(1, [first, second]);
    let expected: Vec<(i64, f64)> = [5, 10, 15, 20].map(|at| (at, 100.0)).to_vec();
    assert_eq!(told(&readings.arrival()), expected);
}

#[test]
fn not_a_number_never_enters() {
    let raw = counters(0, "a", &[(0.0, "0", "0"), (5.0, "500", "NaN"), (10.0, "1000", "+Inf")]);
    let lives = lives(&raw);
    assert_eq!(lives[&0], [[Counters { at_ms: 0.0, read: 0.0, pending: 0.0 }]]);
}

#[test]
fn sources_are_what_reports_pending_records_and_what_flink_calls_one() {
    let label = |name: &str, metric: &str, subtask: &str, attempt: &str| Labels {
        metric: format!("flink_taskmanager_job_task_operator_{metric}"),
        operator_name: name.to_owned(),
        subtask_index: subtask.to_owned(),
        task_attempt_num: attempt.to_owned(),
        ..Labels::default()
    };
    let there = [
        label("Source:_a", "numRecordsIn", "0", "0"),
        label("work", "numRecordsIn", "0", "0"),
        // Was cut in four, is cut in two since it was started again.
        label("b", "pendingRecords", "3", "0"),
        label("b", "pendingRecords", "1", "1"),
    ];
    let sources: Vec<_> = sources_among(there.into_iter())
        .into_iter()
        .map(|(operator, source)| (operator.written(), source))
        .collect();
    let source = |reports_pending, subtasks: u32| Source {
        subtasks: (0..subtasks).collect(),
        reports_pending,
    };
    let expected = [("Source__a".to_owned(), source(false, 1)), ("b".to_owned(), source(true, 2))];
    assert_eq!(sources, expected);
}

#[test]
fn names_cannot_end_a_query() {
    let job = EngineJobId("j\"} or x".into());
    let asked = selector("a", &job, &[("operator_name", "b\\\"c\n")]);
    assert_eq!(asked, r#"{__name__=~"a",job_id="j\"} or x",operator_name="b\\\"c\n"}"#);
}

/// Asks for readings where every question gets `answer`.
fn asked(status: &str, answer: &str) -> Result<Readings, PortError> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = format!(
        "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{answer}",
        answer.len()
    );
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                client.read_exact(&mut byte).unwrap();
                head.extend(byte);
            }
            client.write_all(answer.as_bytes()).unwrap();
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let prometheus = Prometheus::at(&url, Clock::anchored(Timestamp(600_000))).unwrap();
        let span = Span { from: Timestamp(0), to: Timestamp(60_000) };
        prometheus.readings(&EngineJobId("j".into()), span).await
    })
}

const NOTHING: &str = r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#;

#[test]
fn who_is_unknown_is_not_found() {
    let Err(PortError::NotFound(what)) = asked("200 OK", NOTHING) else { panic!() };
    assert!(what.starts_with("deployment j in what http://127.0.0.1:"), "{what}");
}

#[test]
fn what_went_wrong_is_said() {
    let (half, partial) =
        (&NOTHING[..30], NOTHING.replacen('{', r#"{"warnings":["one is down"],"#, 1));
    for (status, answer, says) in [
        ("500 Internal Server Error", "oh", "500 Internal Server Error"),
        ("503 Service Unavailable", r#"{"error":"starting up"}"#, "starting up"),
        ("200 OK", half, "not what Prometheus answers: EOF"),
        ("200 OK", "<html>", "not what Prometheus answers"),
        ("200 OK", &partial, "incomplete: one is down"),
    ] {
        let answer = asked(status, answer);
        let Err(PortError::Unavailable(why)) = &answer else { panic!("{status}: {answer:?}") };
        assert!(why.contains(says) && why.contains("/api/v1/query"), "{why}");
    }
    for (status, answer, says) in [
        ("400 Bad Request", r#"{"error":"parse error"}"#, "parse error"),
        ("404 Not Found", "404 page not found", "404 Not Found"),
        ("401 Unauthorized", "", "401 Unauthorized"),
    ] {
        let answer = asked(status, answer);
        let Err(PortError::Refused(why)) = &answer else { panic!("{status}: {answer:?}") };
        assert!(why.contains(says), "{why}");
    }
}

#[test]
fn nobody_there_is_unavailable() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answer = runtime.block_on(async {
        let clock = Clock::anchored(Timestamp(600_000));
        let prometheus = Prometheus::at(&format!("http://127.0.0.1:{port}/"), clock).unwrap();
        let span = Span { from: Timestamp(0), to: Timestamp(60_000) };
        prometheus.readings(&EngineJobId("j".into()), span).await
    });
    let Err(PortError::Unavailable(why)) = &answer else { panic!("{answer:?}") };
    assert!(why.contains("refused"), "{why}");
}
