//! How servers interpret a path, and which route a plain matcher selects: the reference that the filter is compared
//! with.

use std::collections::BTreeSet;

/// A transformation that some server applies to a path before it matches routes.
type Step = fn(&[u8]) -> Vec<u8>;

/// The transformations of servers. They are combined in several orders.
const STEPS: [Step; 8] = [
    decode,
    without_parameters,
    with_slashes_for_backslashes,
    with_slashes_merged,
    without_dot_segments,
    up_to_a_nul,
    up_to_a_fragment,
    up_to_a_question_mark,
];

/// All interpretations of a request target: the target itself, and the results of up to three steps in any order. The
/// query string is removed first, as all servers do.
pub fn readings(target: &[u8]) -> BTreeSet<Vec<u8>> {
    let path = up_to_a_question_mark(target);
    let mut all = BTreeSet::from([path]);
    let mut newest = all.clone();
    for _ in 0..3 {
        let mut next = BTreeSet::new();
        for reading in &newest {
            next.extend(STEPS.iter().map(|step| step(reading)).filter(|reading| !all.contains(reading)));
        }
        all.extend(next.iter().cloned());
        newest = next;
    }
    all
}

/// The template from `templates` that a server would select: segment by segment, a literal before a parameter before a
/// catch-all, with backtracking.
pub fn route<'t>(templates: &[&'t str], path: &[u8]) -> Option<&'t str> {
    let path = path.strip_prefix(b"/")?;
    let segments: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
    let candidates: Vec<(&str, Vec<&str>)> = templates
        .iter()
        .filter_map(|template| Some((*template, template.strip_prefix('/')?.split('/').collect())))
        .collect();
    choose(&candidates, &segments, 0)
}

fn choose<'t>(candidates: &[(&'t str, Vec<&str>)], segments: &[&[u8]], at: usize) -> Option<&'t str> {
    let Some(segment) = segments.get(at) else {
        return candidates.iter().find(|(_, parts)| parts.len() == at).map(|(template, _)| *template);
    };
    let of_kind = |kind: fn(&str) -> bool| -> Vec<(&'t str, Vec<&str>)> {
        candidates.iter().filter(|(_, parts)| parts.get(at).is_some_and(|part| kind(part))).cloned().collect()
    };
    let literal: Vec<_> = of_kind(|part| !part.starts_with('{'))
        .into_iter()
        .filter(|(_, parts)| decode(parts[at].as_bytes()) == *segment || parts[at].as_bytes() == *segment)
        .collect();
    let parameter = of_kind(|part| part.starts_with('{') && !part.starts_with("{*"));
    let rest = of_kind(|part| part.starts_with("{*"));
    let below = |chosen: &[(&'t str, Vec<&str>)]| {
        if chosen.is_empty() { None } else { choose(chosen, segments, at + 1) }
    };
    below(&literal).or_else(|| if segment.is_empty() { None } else { below(&parameter) }).or_else(|| {
        let not_empty = segments[at..].iter().any(|segment| !segment.is_empty());
        rest.first().filter(|_| not_empty).map(|(template, _)| *template)
    })
}

/// Percent-decodes once.
pub fn decode(path: &[u8]) -> Vec<u8> {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let mut decoded = Vec::with_capacity(path.len());
    let mut at = 0;
    while at < path.len() {
        match (path[at], digit(path.get(at + 1)), digit(path.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                at += 3;
            }
            (byte, ..) => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    decoded
}

/// As servlet containers do.
fn without_parameters(path: &[u8]) -> Vec<u8> {
    let segments: Vec<&[u8]> = path.split(|byte| *byte == b'/').map(|segment| up_to(segment, b';')).collect();
    segments.join(&b'/')
}

/// As IIS does.
fn with_slashes_for_backslashes(path: &[u8]) -> Vec<u8> {
    path.iter().map(|byte| if *byte == b'\\' { b'/' } else { *byte }).collect()
}

/// As nginx does.
fn with_slashes_merged(path: &[u8]) -> Vec<u8> {
    let mut merged: Vec<u8> = Vec::with_capacity(path.len());
    for byte in path {
        if *byte != b'/' || merged.last() != Some(&b'/') {
            merged.push(*byte);
        }
    }
    merged
}

/// RFC 3986, 5.2.4, and tolerant of white space around the dots.
fn without_dot_segments(path: &[u8]) -> Vec<u8> {
    let mut kept: Vec<&[u8]> = Vec::new();
    let segments: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
    for (index, segment) in segments.iter().enumerate() {
        let is_last = index + 1 == segments.len();
        match segment.trim_ascii() {
            b"." if is_last => kept.push(b""),
            b"." => {}
            b".." => {
                if kept.len() > 1 {
                    kept.pop();
                }
                if is_last {
                    kept.push(b"");
                }
            }
            _ => kept.push(segment),
        }
    }
    kept.join(&b'/')
}

fn up_to_a_nul(path: &[u8]) -> Vec<u8> {
    up_to(path, 0).to_vec()
}

fn up_to_a_fragment(path: &[u8]) -> Vec<u8> {
    up_to(path, b'#').to_vec()
}

fn up_to_a_question_mark(path: &[u8]) -> Vec<u8> {
    up_to(path, b'?').to_vec()
}

fn up_to(bytes: &[u8], end: u8) -> &[u8] {
    bytes.split(|byte| *byte == end).next().unwrap_or_default()
}
