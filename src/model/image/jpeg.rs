//! Whether a JPEG file is all there.
//!
//! The decoder fills what is missing with grey. A picture that is half grey gets an answer like any other, and nobody
//! would ever know; Pillow refuses such files, and so do we.

/// Whether the file has its end marker, behind all the segments before it.
///
/// Walks the segments as ITU T.81 (annex B) lays them out; entropy-coded data is searched for the next marker.
pub fn is_complete(bytes: &[u8]) -> bool {
    const START_OF_IMAGE: u8 = 0xd8;
    const END_OF_IMAGE: u8 = 0xd9;
    let mut at = 0;
    loop {
        let Some(marker) = next_marker(bytes, &mut at) else {
            return false;
        };
        match marker {
            END_OF_IMAGE => return true,
            // Markers without a segment: temporary, restarts, start.
            0x01 | 0xd0..=0xd7 | START_OF_IMAGE => {}
            _ => {
                let Some(length) = bytes.get(at..at + 2) else {
                    return false;
                };
                let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
                at += length.max(2);
                // What follows the header of a scan is data, which `next_marker` skips like anything between segments.
            }
        }
    }
}

/// The code of the next marker at or after `at`, which is moved behind it.
fn next_marker(bytes: &[u8], at: &mut usize) -> Option<u8> {
    loop {
        let rest = bytes.get(*at..)?;
        let found = rest.iter().position(|byte| *byte == 0xff)?;
        *at += found + 1;
        // Any number of 0xff may stand before the code; 0 means that the byte before was data.
        while *bytes.get(*at)? == 0xff {
            *at += 1;
        }
        let code = bytes[*at];
        *at += 1;
        if code != 0 {
            return Some(code);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TINY: &[u8] = &[
        0xff, 0xd8, 0xff, 0xe0, 0, 4, 0xff, 0xd9, 0xff, 0xda, 0, 3, 9, 1, 0xff, 0, 2, 0xff, 0xd0, 7, 0xff,
        0xff, 0xd9,
    ];

    #[test]
    fn a_file_is_complete_only_with_its_end_marker_after_all_segments() {
        assert!(is_complete(TINY));
        let mut followed = TINY.to_vec();
        followed.extend(b"trailing bytes of some camera");
        assert!(is_complete(&followed));
        // The end marker inside of a segment (a thumbnail) is not the file's.
        for length in 0..TINY.len() {
            assert!(!is_complete(&TINY[..length]), "{length}");
        }
    }
}
