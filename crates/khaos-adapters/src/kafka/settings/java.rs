//! Lines of `key=value` as Java reads them, but for blanks at the end of a value: those are left out,
//! because they are never meant. One that is meant is written `\ `.

/// One entry, and the line at which it begins, from 1.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) line: usize,
    pub(super) key: String,
    pub(super) value: String,
}

/// The entries of `text` in their order.
pub(super) fn entries(text: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut lines = text.lines().zip(1..);
    while let Some((first, line)) = lines.next() {
        let first = first.trim_start();
        if first.is_empty() || first.starts_with(['#', '!']) {
            continue;
        }
        let mut whole = first.to_owned();
        while continues(&whole)
            && let Some((next, _)) = lines.next()
        {
            whole.pop();
            whole.push_str(next.trim_start());
        }
        let (key, value) = split(&whole);
        entries.push(Entry { line, key: unescaped(key), value: unescaped(value) });
    }
    entries
}

/// A line goes on in the next one where it ends with a backslash that no other one escapes.
fn continues(line: &str) -> bool {
    line.chars().rev().take_while(|c| *c == '\\').count() % 2 == 1
}

/// The key ends at the first `=`, `:` or blank that is not escaped.
fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    let end = line.find(|c: char| {
        let ends = !escaped && (c == '=' || c == ':' || c.is_whitespace());
        escaped = !escaped && c == '\\';
        ends
    });
    let (key, rest) = line.split_at(end.unwrap_or(line.len()));
    let rest = rest.trim_start();
    (key, rest.strip_prefix(['=', ':']).unwrap_or(rest).trim_start())
}

fn unescaped(text: &str) -> String {
    let mut plain = String::new();
    // Up to where blanks at the end are meant.
    let mut meant = 0;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            plain.push(c);
            if !c.is_whitespace() {
                meant = plain.len();
            }
            continue;
        }
        match chars.next() {
            Some('t') => plain.push('\t'),
            Some('n') => plain.push('\n'),
            Some('r') => plain.push('\r'),
            Some('u') => {
                let digits = chars.as_str().get(..4).unwrap_or_default();
                let code = u32::from_str_radix(digits, 16).ok().and_then(char::from_u32);
                match code {
                    Some(code) => {
                        plain.push(code);
                        chars = chars.as_str()[4..].chars();
                    }
                    None => plain.push('u'),
                }
            }
            Some(other) => plain.push(other),
            None => {}
        }
        meant = plain.len();
    }
    plain.truncate(meant);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_java_reads() {
        let text = "# comment\n! another\n\n a=1\nb : 2\nc 3\nd\\=e=f=g\nh=i\\\n    j\\\\\nk=\nl\n\
                    m=\\u00e9\\t.\nn=o  \np=q\\ \r\n";
        let read: Vec<(usize, String, String)> =
            entries(text).into_iter().map(|e| (e.line, e.key, e.value)).collect();
        let expected = [
            (4, "a", "1"),
            (5, "b", "2"),
            (6, "c", "3"),
            (7, "d=e", "f=g"),
            (8, "h", "ij\\"),
            (10, "k", ""),
            (11, "l", ""),
            (12, "m", "é\t."),
            (13, "n", "o"),
            (14, "p", "q "),
        ];
        assert_eq!(read, expected.map(|(line, k, v)| (line, k.to_owned(), v.to_owned())));
    }
}
