//! Times in form fields and query strings of pages: in UTC, without a zone.

/// Converts a time of a form field, which has no zone and is in UTC, to RFC 3339. A date is the start of its day.
pub(super) fn to_instant(text: &str) -> String {
    let text = text.trim().replacen(' ', "T", 1);
    let is_date = text.len() == 10 && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    let Some((_, time)) = text.split_once('T') else {
        return if is_date { format!("{text}T00:00:00Z") } else { text };
    };
    if time.is_empty() || time.contains(['Z', 'z', '+', '-']) {
        return text;
    }
    let seconds = if time.len() == 5 { ":00" } else { "" };
    format!("{text}{seconds}Z")
}

/// Converts a time to the value of a form field: in UTC, without a zone.
pub(super) fn to_field(text: &str) -> String {
    let instant = to_instant(text);
    let text = instant.strip_suffix('Z').unwrap_or(&instant);
    text.strip_suffix(".000").unwrap_or(text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_without_a_zone_are_in_utc() {
        for (text, expected) in [
            ("2027-01-15T08:00", "2027-01-15T08:00:00Z"),
            ("2027-01-15 08:00:01.5", "2027-01-15T08:00:01.5Z"),
            ("2027-01-15", "2027-01-15T00:00:00Z"),
            ("2027-01-15T08:00:00.001Z", "2027-01-15T08:00:00.001Z"),
            ("2027-01-15T08:00:00+02:00", "2027-01-15T08:00:00+02:00"),
            ("yesterday", "yesterday"),
            ("", ""),
        ] {
            assert_eq!(to_instant(text), expected);
        }
        assert_eq!(to_field("2027-01-15T08:00:00.000Z"), "2027-01-15T08:00:00");
        assert_eq!(to_field(""), "");
    }
}
