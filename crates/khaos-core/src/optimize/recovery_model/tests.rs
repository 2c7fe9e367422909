use super::*;

const PAPER: RecoveryParameters = RecoveryParameters {
    dead_time_s: 16.2,
    settling_s: 62.5,
    capacity_eps: 34_294.0,
    checkpoint_cost_s: 0.815,
};

#[test]
fn the_formula_by_hand() {
    // CI 30, λ 20,000: left 34,294·(1 − 0.815/30) = 33,362.35; gap 13,362.35;
    // 78.7 + 46.2·20,000/13,362.35 = 147.85.
    assert!((PAPER.worst_case(30.0, 0.0, 20_000.0).unwrap() - 147.85).abs() < 0.01);
    // δ = 10 adds 10·20,000/13,362.35 = 14.97.
    assert!((PAPER.worst_case(30.0, 10.0, 20_000.0).unwrap() - 162.82).abs() < 0.01);
    assert_eq!(PAPER.worst_case(30.0, 0.0, 33_400.0), None);
    assert!(PAPER.worst_case_floored(30.0, 0.0, 33_400.0).is_finite());
}

#[test]
fn a_load_that_rises_brought_less_before_the_failure_than_it_brings_after() {
    // Down for 16 s, 30 s of 10,000 events/s to read again, 20,000 events/s since: as above,
    // 16 + 62.5 + (30·10,000 + 16·20,000)/13,362.35 = 124.90.
    let rising = Arriving { before: 10_000.0, during: 20_000.0 };
    assert!((PAPER.after(16.0, 30.0, 30.0, rising).unwrap() - 124.90).abs() < 0.01);
    let falling = Arriving { before: 33_400.0, during: 20_000.0 };
    assert!(PAPER.after(16.0, 30.0, 30.0, falling).is_some());
    assert_eq!(PAPER.after(16.0, 30.0, 30.0, Arriving::always(33_400.0)), None);
}

#[test]
fn the_capacity_needed_keeps_the_objective_exactly() {
    let needed = PAPER.capacity_needed(60.0, 5.0, 30_000.0, 240.0).unwrap();
    let grown = RecoveryParameters { capacity_eps: needed, ..PAPER };
    assert!((grown.worst_case(60.0, 5.0, 30_000.0).unwrap() - 240.0).abs() < 1e-6);
    assert_eq!(PAPER.capacity_needed(60.0, 5.0, 30_000.0, 78.0), None);
}

fn trial(index: u32, interval: u32, load: f64, noise: f64, in_parts: bool) -> Trial {
    let interval = CheckpointInterval::from_secs(interval).unwrap();
    let seconds = |s: f64| Some(Seconds::new(s).unwrap());
    let ci = interval.seconds();
    let dead = PAPER.dead_time_s * noise;
    let backlog = (dead + ci) * load;
    let left = PAPER.capacity_beside_checkpoints(ci);
    let recovery = dead + PAPER.settling_s + backlog / (left - load);
    Trial {
        index,
        interval,
        load: EventRate::new(load).unwrap(),
        latency: None,
        recovery: Recovery::Measured(Seconds::new(recovery).unwrap()),
        dead_time: seconds(dead).filter(|_| in_parts),
        age: seconds(ci).filter(|_| in_parts),
        backlog: Some(Events::new(backlog).unwrap()).filter(|_| in_parts),
        catch_up: Some(EventRate::new(left).unwrap()).filter(|_| in_parts && load > 10_000.0),
        load_during: None,
        checkpoint_duration: seconds(0.0),
        failed_within: None,
        detection: None,
    }
}

fn six(in_parts: bool) -> Vec<Trial> {
    let plan = [
        (120, 27_000.0, 1.1),
        (10, 27_000.0, 0.92),
        (35, 20_000.0, 1.05),
        (120, 14_000.0, 0.97),
        (10, 7_000.0, 1.02),
        (35, 300.0, 0.95),
    ];
    (0..6).map(|i| trial(i as u32, plan[i].0, plan[i].1, plan[i].2, in_parts)).collect()
}

#[test]
fn six_trials_in_parts_find_the_parameters() {
    let trials = six(true);
    let model = RecoveryModel::fit(&trials.iter().collect::<Vec<_>>()).unwrap();
    let found = model.parameters;
    assert!((found.capacity_eps / PAPER.capacity_eps - 1.0).abs() < 0.01, "{found:?}");
    assert!((found.dead_time_s / PAPER.dead_time_s - 1.0).abs() < 0.05, "{found:?}");
    assert!((found.settling_s / PAPER.settling_s - 1.0).abs() < 0.05, "{found:?}");
    assert!((found.checkpoint_cost_s - PAPER.checkpoint_cost_s).abs() < 0.15, "{found:?}");
}

#[test]
fn parts_teach_more_than_whole_recoveries() {
    let width = |in_parts| {
        let trials = six(in_parts);
        let model = RecoveryModel::fit(&trials.iter().collect::<Vec<_>>()).unwrap();
        let predictor = model.predictor().unwrap();
        let bound = |p| predictor.upper(p, 60.0, 0.0, 22_000.0).unwrap();
        bound(0.9) / bound(0.1)
    };
    assert!(width(true) < width(false));
}

#[test]
fn the_upper_bound_lies_above_the_middle_and_knows_infeasible() {
    let trials = six(true);
    let model = RecoveryModel::fit(&trials.iter().collect::<Vec<_>>()).unwrap();
    let predictor = model.predictor().unwrap();
    let upper = |p| predictor.upper(p, 30.0, 0.0, 25_000.0).unwrap();
    assert!(upper(0.75) > upper(0.5));
    assert_eq!(predictor.upper(0.75, 30.0, 0.0, 40_000.0), None);
    assert_eq!(predictor, model.predictor().unwrap(), "the same model, the same bounds");
}

#[test]
fn priors_alone_are_the_paper_s_usual_job_and_wide() {
    let model = RecoveryModel::of_priors(EventRate::new(10_000.0).unwrap(), None, None).unwrap();
    assert_eq!(model.trials, 0);
    let found = model.parameters;
    assert!((found.floor_s() - 60.0).abs() < 1e-6, "{found:?}");
    assert!((found.dead_time_s - 24.0).abs() < 1e-6, "{found:?}");
    assert!((found.capacity_eps - 14_500.0).abs() < 1e-3, "{found:?}");
    assert!((found.checkpoint_cost_s - 1.0).abs() < 1e-6, "{found:?}");
    // With nothing arriving R = D_0 ~ exp(N(ln 60, 0.5)): its upper quartile is
    // 60·exp(0.674·0.5) = 84 s, give or take what 128 draws do.
    let upper = model.predictor().unwrap().upper(0.75, 30.0, 0.0, 0.0).unwrap();
    assert!((75.0..95.0).contains(&upper), "{upper}");
}

#[test]
fn a_dead_time_that_the_engine_tells_is_believed_and_settling_is_no_share_of_it() {
    let highest = EventRate::new(10_000.0).unwrap();
    let of = |dead: f64| RecoveryModel::of_priors(highest, None, Seconds::new(dead).ok()).unwrap();
    for dead in [4.0, 22.0] {
        let found = of(dead).parameters;
        assert!((found.dead_time_s - dead).abs() < 1e-6, "{found:?}");
        assert!((found.settling_s - 15.0).abs() < 1e-6, "{found:?}");
        assert!((found.capacity_eps - 14_500.0).abs() < 1e-3, "{found:?}");
    }
    // With nothing arriving R = D_r + settling, logs N(ln 4, 0.5) and N(ln 15, 0.7): that of the sum has
    // a variance of about (4/19·0.5)² + (15/19·0.7)² = 0.316, and its upper quartile is
    // 19·exp(0.674·0.563) = 28 s, give or take what 128 draws do. 84 s without being told.
    let upper = of(4.0).predictor().unwrap().upper(0.75, 30.0, 0.0, 0.0).unwrap();
    assert!((25.0..31.5).contains(&upper), "{upper}");
}

#[test]
fn a_checkpoint_costs_no_more_than_it_takes() {
    let highest = EventRate::new(10_000.0).unwrap();
    for (longest, cost) in [(0.2, 0.2), (7.0, 1.0), (0.0, 0.01)] {
        let longest = Some(Seconds::new(longest).unwrap());
        let found = RecoveryModel::of_priors(highest, longest, None).unwrap().parameters;
        assert!((found.checkpoint_cost_s - cost).abs() < 1e-6, "{found:?}");
    }
}

#[test]
fn a_censored_trial_pushes_one_way_only() {
    let mut long = six(true);
    long[0].recovery = Recovery::Censored(Seconds::new(100.0).unwrap());
    let refs: Vec<&Trial> = long.iter().collect();
    let model = RecoveryModel::fit(&refs).unwrap();
    // It lasted at least 100 s, and the formula says 560 s: nothing contradicts it.
    assert!((model.parameters.capacity_eps / PAPER.capacity_eps - 1.0).abs() < 0.02);
}

#[test]
fn dead_times_that_vary_more_than_expected_are_trusted_less() {
    // ln 10, ln 20, ln 40: squares 2·(ln 2)² = 0.961; (4·0.0225 + 0.961)/(4 + 2) = 0.175, σ 0.418.
    let of = |dead: [f64; 3]| {
        let trials: Vec<Trial> = dead
            .into_iter()
            .map(|dead| Trial {
                dead_time: Seconds::new(dead).ok(),
                ..trial(0, 30, 1.0, 1.0, true)
            })
            .collect();
        sigma_dead(&trials.iter().collect::<Vec<_>>())
    };
    assert!((of([10.0, 20.0, 40.0]) - 0.418).abs() < 1e-3);
    assert!((of([20.0; 3]) - SIGMA_DEAD).abs() < 1e-12, "never surer than expected");
    assert!((sigma_dead(&[]) - SIGMA_DEAD).abs() < 1e-12);
}
