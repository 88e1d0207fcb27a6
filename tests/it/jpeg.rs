//! JPEG files of every sort beside Pillow: the same pixels, bit for bit.
//!
//! `tests/peers/jpegs.py` writes the files, and reads them with the libjpeg-turbo that Pillow brings along.

use floe::model::image::decode::{Decoder, Limits};

use crate::support::{project, python};

const FILES: &str = "400";

#[test]
fn pixels_of_a_jpeg_are_those_of_pillow() {
    let folder = tempfile::tempdir().unwrap();
    let done = std::process::Command::new(python())
        .arg(project().join("tests/peers/jpegs.py"))
        .args([folder.path().as_os_str(), FILES.as_ref()])
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    // One decoder for all: what a picture leaves in its buffers must not show in the next.
    let mut decoder = Decoder::default();
    let (mut compared, mut different) = (0, Vec::new());
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "jpg") {
            continue;
        }
        let theirs = std::fs::read(path.with_extension("rgb")).unwrap();
        let ours = decoder.decode(&std::fs::read(&path).unwrap(), &Limits::default());
        let ours = ours.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let extents = [ours.width.to_le_bytes(), ours.height.to_le_bytes()].concat();
        let colors = ours
            .pixels
            .iter()
            .flat_map(|[red, green, blue, _]| [*red, *green, *blue]);
        if theirs != extents.into_iter().chain(colors).collect::<Vec<u8>>() {
            different.push(path.file_name().unwrap().to_owned());
        }
        decoder.recycle(ours);
        compared += 1;
    }
    assert_eq!(compared.to_string(), FILES);
    assert!(different.is_empty(), "{different:?}");
}
