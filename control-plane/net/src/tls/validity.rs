//! When a certificate is valid, read from its DER form. Nothing else of it is looked at here.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use omniflow_policy::time::UnixMillis;

use super::Certificate;

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// The version's tag, which certificates of version 1 lack.
const VERSION: u8 = 0xa0;

/// Reads `Certificate.tbsCertificate.validity` (RFC 5280, section 4.1). `None` if there is none in that place.
pub(super) fn read(certificate: &[u8]) -> Option<Certificate> {
    let (certificate, _) = element(certificate, SEQUENCE)?;
    let (mut fields, _) = element(certificate, SEQUENCE)?;
    if let Some((_, rest)) = element(fields, VERSION) {
        fields = rest;
    }
    // Serial number, signature algorithm, issuer.
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        (_, fields) = element(fields, tag)?;
    }
    let (validity, _) = element(fields, SEQUENCE)?;
    let (not_before, rest) = time(validity)?;
    let (not_after, _) = time(rest)?;
    Some(Certificate { not_before, not_after })
}

/// The content of the element that the bytes begin with, if it has this tag, and what comes after it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.strip_prefix(&[tag])?.split_first()?;
    match *length {
        length @ 0..0x80 => rest.split_at_checked(length.into()),
        // The length takes some bytes of its own. More than three are more than any certificate has.
        length => {
            let (digits, rest) =
                rest.split_at_checked(usize::from(length & 0x7f)).filter(|_| length <= 0x83)?;
            let length = digits.iter().fold(0_usize, |length, digit| (length << 8) | usize::from(*digit));
            rest.split_at_checked(length)
        }
    }
}

/// A time, always in UTC and to the second (RFC 5280, section 4.1.2.5), and what comes after it.
fn time(bytes: &[u8]) -> Option<(UnixMillis, &[u8])> {
    let (text, rest) = match element(bytes, UTC_TIME) {
        Some((short, rest)) => {
            let short = std::str::from_utf8(short).ok()?;
            // Two digits of a year are in the years from 1950 to 2049.
            let century = if short.get(..2)?.parse::<u8>().ok()? >= 50 { "19" } else { "20" };
            (format!("{century}{short}"), rest)
        }
        None => {
            let (long, rest) = element(bytes, GENERALIZED_TIME)?;
            (std::str::from_utf8(long).ok()?.to_owned(), rest)
        }
    };
    let civil = DateTime::strptime("%Y%m%d%H%M%SZ", text).ok()?;
    let millis = civil.to_zoned(TimeZone::UTC).ok()?.timestamp().as_millisecond();
    // What was before 1970 is over in either case.
    Some((UnixMillis(u64::try_from(millis).unwrap_or(0)), rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use omniflow_domain::time::format_time;

    fn der(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = content.len();
        let head = match u8::try_from(length) {
            Ok(short @ 0..0x80) => vec![tag, short],
            Ok(long) => vec![tag, 0x81, long],
            Err(_) => vec![tag, 0x82, (length >> 8) as u8, length as u8],
        };
        [head, content.to_vec()].concat()
    }

    /// As much of a certificate as is looked at, with an issuer so long.
    fn certificate(version: bool, issuer: usize, times: [(u8, &str); 2]) -> Vec<u8> {
        let times = times.map(|(tag, text)| der(tag, text.as_bytes()));
        let fields = [
            if version { der(VERSION, &der(INTEGER, &[2])) } else { Vec::new() },
            der(INTEGER, &[1]),
            der(SEQUENCE, &[]),
            der(SEQUENCE, &vec![7; issuer]),
            der(SEQUENCE, &times.concat()),
        ];
        der(SEQUENCE, &der(SEQUENCE, &fields.concat()))
    }

    #[test]
    fn both_forms_of_time_are_read() {
        for (version, issuer) in [(true, 5), (false, 200), (true, 70_000 / 2)] {
            let times = [(UTC_TIME, "491231235959Z"), (GENERALIZED_TIME, "20500101000000Z")];
            let found = read(&certificate(version, issuer, times)).unwrap();
            assert_eq!(format_time(found.not_before), "2049-12-31T23:59:59.000Z");
            assert_eq!(format_time(found.not_after), "2050-01-01T00:00:00.000Z");
        }
        let found = read(&certificate(true, 0, [(UTC_TIME, "500101000000Z"), (UTC_TIME, "700101000001Z")]));
        assert_eq!(found.unwrap(), Certificate { not_before: UnixMillis(0), not_after: UnixMillis(1_000) });
    }

    #[test]
    fn what_is_no_certificate_is_told_and_never_read_beyond() {
        let right = certificate(true, 3, [(UTC_TIME, "270101000000Z"), (UTC_TIME, "280101000000Z")]);
        assert!(read(&right).is_some());
        for end in 0..right.len() {
            assert_eq!(read(&right[..end]), None, "cut at {end}");
        }
        let february = [(UTC_TIME, "270230000000Z"), (UTC_TIME, "280101000000Z")];
        assert_eq!(read(&certificate(true, 3, february)), None);
        assert_eq!(read(&[0x30, 0x84, 0, 0, 0, 1, 0]), None);
    }
}
