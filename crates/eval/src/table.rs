//! A table, built once and written as Markdown or as HTML.

use std::fmt::Write;

use lossy_formats::{Escaped, EscapedLines};

use crate::divergence::Estimate;

/// How a column stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// names
    Left,
    /// numbers
    Right,
}

/// Heads and rows.
#[derive(Clone, Debug)]
pub struct Table {
    heads: &'static [(&'static str, Align)],
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Without rows.
    pub fn new(heads: &'static [(&'static str, Align)]) -> Table {
        Table { heads, rows: Vec::new() }
    }

    /// Adds a row.
    ///
    /// # Panics
    /// If it has not a cell for each head.
    pub fn push<const N: usize>(&mut self, cells: [String; N]) {
        assert_eq!(N, self.heads.len(), "a cell for each head");
        self.rows.push(cells.to_vec());
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// As Markdown.
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        let heads: Vec<&str> = self.heads.iter().map(|(head, _)| *head).collect();
        let rules = self.heads.iter().map(|(_, align)| if *align == Align::Left { "---" } else { "---:" });
        // Writing to a String does not fail.
        let _ = writeln!(text, "| {} |", heads.join(" | "));
        let _ = writeln!(text, "| {} |", rules.collect::<Vec<_>>().join(" | "));
        for row in &self.rows {
            let cell = |cell: &String| Escaped(cell).to_string().replace('|', "\\|");
            let cells: Vec<String> = row.iter().map(cell).collect();
            let _ = writeln!(text, "| {} |", cells.join(" | "));
        }
        text
    }

    /// As HTML.
    pub fn html(&self) -> String {
        let line = |tag: &str, cells: &mut dyn Iterator<Item = &str>| {
            let cell = |(cell, (_, align)): (&str, &(&str, Align))| {
                let class = if *align == Align::Left { " class=\"name\"" } else { "" };
                format!("<{tag}{class}>{}</{tag}>", escape(cell))
            };
            format!("<tr>{}</tr>\n", cells.zip(self.heads).map(cell).collect::<String>())
        };
        let heads = line("th", &mut self.heads.iter().map(|(head, _)| *head));
        let rows = self.rows.iter().map(|row| line("td", &mut row.iter().map(String::as_str)));
        format!(
            "<div class=\"wide\"><table>\n<thead>{heads}</thead>\n<tbody>{}</tbody></table></div>\n",
            rows.collect::<String>()
        )
    }
}

/// `0.00871 ± 0.00041`
pub fn with_error(estimate: Estimate, decimals: usize) -> String {
    let sign = if estimate.value < 0.0 { "−" } else { "" };
    format!("{sign}{:.decimals$} ± {:.decimals$}", estimate.value.abs(), estimate.se)
}

/// `95.5 %`
pub fn percent(share: f64, decimals: usize) -> String {
    format!("{:.decimals$} %", 100.0 * share)
}

/// As text of a page.
pub fn escape(text: &str) -> String {
    let text = EscapedLines(text).to_string();
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADS: &[(&str, Align)] = &[("setting", Align::Left), ("KL", Align::Right)];

    #[test]
    fn a_table_is_written_in_both_ways() {
        let mut table = Table::new(HEADS);
        assert!(table.is_empty());
        table.push(["a|<b>".to_string(), "0.1".to_string()]);
        assert_eq!(table.markdown(), "| setting | KL |\n| --- | ---: |\n| a\\|<b> | 0.1 |\n");
        let html = table.html();
        assert!(html.contains("<th class=\"name\">setting</th><th>KL</th>"), "{html}");
        assert!(html.contains("<td class=\"name\">a|&lt;b&gt;</td><td>0.1</td>"), "{html}");
    }

    #[test]
    fn names_cannot_break_the_page() {
        assert_eq!(escape("<a href=\"x\">&"), "&lt;a href=&quot;x&quot;&gt;&amp;");
        assert_eq!(escape("a\u{202e}b\nc"), "a\\u{202e}b\nc");
        let mut table = Table::new(HEADS);
        table.push(["a\n| b |\x1b".to_string(), String::new()]);
        assert!(table.markdown().ends_with("\n| a\\u{a}\\| b \\|\\u{1b} |  |\n"), "{}", table.markdown());
    }
}
