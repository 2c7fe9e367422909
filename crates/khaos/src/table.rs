//! Tables for people.

use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};

use crate::simulate::PolicyResult;

/// One rule, below the header.
const RULED: TableStyle = TableStyle::new().header_separator(LineStyle::new('─', '─', '─', '─'));

/// An empty table with `header`; the first column is text, the others are numbers.
pub fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(RULED).set_header(header.to_vec());
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// A share in percent; a dash where it is not known.
pub fn percent(share: Option<f64>) -> String {
    share.map_or("–".into(), |share| format!("{:.1} %", 100.0 * share))
}

/// How each policy did.
pub fn policies(results: &[PolicyResult]) -> Table {
    let mut table = table(&[
        "policy",
        "exposure",
        "recoveries over",
        "longest, s",
        "latency, ms",
        "changes",
        "downtime, s",
        "checkpoints",
    ]);
    for result in results {
        table.add_row([
            result.name.clone(),
            format!("{:.2} %", 100.0 * result.exposure),
            format!("{} of {}", result.recoveries_over, result.failures),
            longest(result),
            format!("{:.0}", result.latency_mean_ms),
            result.interval_changes.to_string(),
            format!("{:.0}", result.downtime_s),
            result.checkpoints.to_string(),
        ]);
    }
    table
}

/// The longest recovery, in words where there is no number.
pub fn longest(result: &PolicyResult) -> String {
    match result.recovery_max_s {
        Some(seconds) => format!("{seconds:.0}"),
        None if result.recoveries_over == 0 => "–".into(),
        None => "no end".into(),
    }
}
