//! Tables of comma-separated values (RFC 4180), safe to open in a spreadsheet.

use std::fmt::Write as _;

/// A table; every value is in quotes.
#[derive(Debug, Default)]
pub(super) struct Csv(String);

impl Csv {
    pub(super) fn of(header: &[&str]) -> Self {
        let mut table = Self::default();
        table.row(header);
        table
    }

    pub(super) fn row<T: AsRef<str>>(&mut self, values: &[T]) {
        for (place, value) in values.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            let value = value.as_ref();
            // A text that begins so is a formula to spreadsheets; a number is not.
            let is_formula = value.starts_with(['=', '+', '-', '@', '\t', '\r'])
                && value.parse::<i64>().is_err();
            let mark = if is_formula { "'" } else { "" };
            // Writing into a string cannot fail.
            let _written = write!(self.0, "{comma}\"{mark}{}\"", value.replace('"', "\"\""));
        }
        self.0.push_str("\r\n");
    }

    pub(super) fn into_text(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_never_a_formula_and_never_ends_early() {
        let mut table = Csv::of(&["name", "score"]);
        table.row(&["=HYPERLINK(\"x\")", "-7"]);
        table.row(&["a, b\n", "3"]);
        let expected =
            "\"name\",\"score\"\r\n\"'=HYPERLINK(\"\"x\"\")\",\"-7\"\r\n\"a, b\n\",\"3\"\r\n";
        assert_eq!(table.into_text(), expected);
    }
}
