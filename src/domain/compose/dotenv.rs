//! The file `.env-compose` (apps chapter 4.9): one line per variable, quoted so that the containers get each value as it is.
//!
//! The two generations of compose read such files differently, and both change values that are not quoted: ` #` begins a
//! comment, `$` a variable, blanks at the ends and quotes go. `tests/real/dotenv.rs` shows both what comes out of them.

use super::super::environment::escape;
use std::collections::BTreeMap;

/// Who reads the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Compose 2: a backslash in double quotes takes the meaning from what follows.
    V2,
    /// Compose 1.29, by python-dotenv: single quotes; a variable in braces is replaced inside any quotes.
    V1,
}

/// The text of the file, and the names that have no place in it, for M-ENVSKIP.
pub fn dotenv(variables: &BTreeMap<String, String>, dialect: Dialect) -> (String, Vec<String>) {
    let (mut text, mut skipped) = (String::new(), Vec::new());
    for (name, value) in variables {
        let key = name.trim();
        if is_key(key) {
            let value = escape(value);
            let value = if is_plain(&value) { value } else { dialect.quote(&value) };
            text.extend([key, "=", value.as_str(), "\n"]);
        } else {
            skipped.push(name.clone());
        }
    }
    (text, skipped)
}

/// One name with any other character makes compose 2 refuse the whole file, and the project with it.
fn is_key(key: &str) -> bool {
    !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || "_.-[]".contains(c))
}

fn is_plain(value: &str) -> bool {
    !value.contains(|c: char| c.is_whitespace() || c.is_control() || "#$'\"\\`".contains(c))
}

impl Dialect {
    fn quote(self, value: &str) -> String {
        match self {
            Dialect::V2 => format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "\\$")),
            Dialect::V1 => {
                // There is no backslash before the closing quote and no `${` that could be written as such: both come as
                // the default of a variable without a name.
                let (value, last) = value.strip_suffix('\\').map_or((value, ""), |rest| (rest, "${:-\\\\}"));
                let value = value.replace('\\', "\\\\").replace('\'', "\\'").replace("${", "${:-$}{");
                format!("'{value}{last}'")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn x2_names_that_compose_refuses_are_left_out_and_named() {
        let variables = map(&[
            ("DEVICE_KEY", "123"),
            ("PADDED_KEY ", "value"),
            ("GOOD_URL", "https://x/?a=b c d"),
            ("MY KEY", "value"),
            ("#COMMENTED", "value"),
            ("", "nameless"),
            ("TAB\tKEY", "value"),
            ("A/B", "value"),
            ("A:B", "value"),
        ]);
        let (text, skipped) = dotenv(&variables, Dialect::V2);
        assert_eq!(text, "DEVICE_KEY=123\nGOOD_URL=\"https://x/?a=b c d\"\nPADDED_KEY=value\n");
        assert_eq!(skipped, ["", "#COMMENTED", "A/B", "A:B", "MY KEY", "TAB\tKEY"]);
        assert_eq!(dotenv(&variables, Dialect::V1).1, skipped);
    }

    #[test]
    fn x2_only_values_that_would_change_are_quoted() {
        for (value, v2, v1) in [
            ("", "", ""),
            ("a=b,c;(d)", "a=b,c;(d)", "a=b,c;(d)"),
            ("ünï☃", "ünï☃", "ünï☃"),
            (" a", "\" a\"", "' a'"),
            ("a # b", "\"a # b\"", "'a # b'"),
            ("$X", "\"\\$X\"", "'$X'"),
            ("${X}", "\"\\${X}\"", "'${:-$}{X}'"),
            ("it's", "\"it's\"", "'it\\'s'"),
            ("\"q\"", "\"\\\"q\\\"\"", "'\"q\"'"),
            ("a\\b", "\"a\\\\b\"", "'a\\\\b'"),
            ("a\\", "\"a\\\\\"", "'a${:-\\\\}'"),
            ("a\nb", "\"a\\\\nb\"", "'a\\\\nb'"),
        ] {
            assert_eq!(dotenv(&map(&[("K", value)]), Dialect::V2).0, format!("K={v2}\n"), "{value:?}");
            assert_eq!(dotenv(&map(&[("K", value)]), Dialect::V1).0, format!("K={v1}\n"), "{value:?}");
        }
    }
}
