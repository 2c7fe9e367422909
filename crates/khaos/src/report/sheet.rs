//! The sheet of paper that every page is written on: self-contained, legible on screen and in print.

use maud::{DOCTYPE, Markup, PreEscaped, html};

const STYLE: &str = "
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; max-width: 66rem;
  margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: .2rem; } h2 { margin: 2.2rem 0 .4rem; font-size: 1.15rem; }
p { max-width: 48rem; margin: .4rem 0; }
svg { width: 100%; height: auto; display: block; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .5rem 0; }
th, td { padding: .25rem .8rem; text-align: right; border-bottom: 1px solid #ddd; }
td { white-space: nowrap; } td.text { white-space: normal; }
th:first-child, td:first-child, td.text { text-align: left; }
th { border-bottom: 2px solid #666; } tr.khaos td { font-weight: 600; background: #eaf3fa; }
.scroll { overflow-x: auto; } footer { color: #555; margin: 3rem 0 1rem; font-size: .9rem; }
@media print { body { margin: 0; max-width: none; } details { display: none; } h2 { break-after: avoid; }
  svg, table { break-inside: avoid; } }
";

/// A page with `title` as its heading and `body` below it, as HTML.
pub(crate) fn sheet(title: &str, body: &Markup) -> String {
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Khaos: " (title) }
                style { (PreEscaped(STYLE)) }
            }
            body { h1 { (title) } (body) }
        }
    };
    markup.into_string()
}
