//! The recorded day, forecast ten minutes ahead.

use assert_cmd::Command;
use serde_json::Value;

use super::recorded;

#[test]
fn the_recorded_day_is_forecast_better_than_by_its_last_value() {
    let Some(dir) = recorded("the forecast of the recorded day") else { return };
    let mut khaos = Command::cargo_bin("khaos").unwrap();
    khaos.args(["forecast", "--json", "--horizon", "10m", "--workload"]);
    khaos.arg(dir.join("workload.csv"));
    let result: Value =
        serde_json::from_slice(&khaos.assert().success().get_output().stdout).unwrap();
    let figure = |key: &str| result[key].as_f64().unwrap();
    assert_eq!(result["origins"], 1_348);
    assert!(figure("mape") <= 0.065, "{result:#}");
    assert!((figure("last_value_mape") - 0.11).abs() < 0.005, "{result:#}");
    assert!((0.86..=0.96).contains(&figure("upper90_coverage")), "{result:#}");
    assert!(figure("bound_above_maximum") < 0.1, "{result:#}");
}
