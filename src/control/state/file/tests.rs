//! Files of every kind, and kills at every point.

use super::*;

/// Files as a start may find them, and the total of the best copy; 0: there is none.
const SITUATIONS: [([Found; 3], u64); 14] = {
    use Found::{Nothing, Torn, Whole};
    // The present file, the previous, the new.
    [
        ([Nothing, Nothing, Nothing], 0),
        ([Nothing, Nothing, Torn], 0),
        ([Nothing, Nothing, Whole(3)], 3),
        ([Nothing, Whole(1), Nothing], 1),
        ([Nothing, Whole(1), Torn], 1),
        ([Nothing, Whole(1), Whole(3)], 3),
        ([Whole(2), Nothing, Nothing], 2),
        ([Whole(2), Whole(1), Nothing], 2),
        ([Whole(2), Whole(1), Torn], 2),
        ([Whole(2), Torn, Whole(3)], 2),
        ([Torn, Whole(1), Nothing], 1),
        ([Torn, Whole(1), Torn], 1),
        ([Torn, Nothing, Whole(3)], 3),
        ([Torn, Torn, Torn], 0),
    ]
};

fn saved(upload_bytes: u64) -> Saved {
    Saved { upload_bytes, ..Saved::default() }
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    (folder, path)
}

#[test]
fn what_was_written_is_read_and_the_copy_before_is_kept() {
    let (_folder, path) = folder();
    write(&path, &saved(1)).unwrap();
    write(&path, &saved(2)).unwrap();
    let loaded = load(&path, 0);
    assert_eq!((loaded.saved.upload_bytes, loaded.warnings.len()), (2, 0));
    assert_eq!(read(&beside(&path, ".previous")).unwrap().upload_bytes, 1);
    assert!(!beside(&path, ".new").exists());
}

#[test]
fn without_a_file_everything_begins_at_zero_and_nobody_is_alarmed() {
    let (_folder, path) = folder();
    let loaded = load(&path, 0);
    assert_eq!((loaded.saved.upload_bytes, loaded.warnings.len()), (0, 0));
}

#[test]
fn a_torn_file_is_set_aside_and_the_copy_before_serves() {
    let (_folder, path) = folder();
    write(&path, &saved(1)).unwrap();
    write(&path, &saved(2)).unwrap();
    let whole = fs::read(&path).unwrap();
    for length in (0..whole.len()).step_by(7) {
        fs::write(&path, &whole[..length]).unwrap();
        let loaded = load(&path, length as u64);
        assert_eq!(loaded.saved.upload_bytes, 1, "{length} of {} bytes", whole.len());
        assert_eq!(fs::read(beside(&path, &format!(".unreadable-{length}"))).unwrap(), &whole[..length]);
        assert!(loaded.warnings[0].contains("set aside"), "{:?}", loaded.warnings);
    }
}

#[test]
fn a_changed_byte_is_noticed() {
    let (_folder, path) = folder();
    write(&path, &saved(12345)).unwrap();
    let text = fs::read_to_string(&path).unwrap().replace("12345", "12346");
    fs::write(&path, text).unwrap();
    let loaded = load(&path, 0);
    assert_eq!(loaded.saved.upload_bytes, 0);
    assert!(loaded.warnings[0].contains("damaged") && loaded.warnings.len() == 2, "{:?}", loaded.warnings);
}

#[test]
fn foreign_and_later_files_are_not_touched() {
    for (text, says) in [
        ("{\"users\": []}\n", "not a state file"),
        ("hello", "not a state file"),
        ("{\"format\":\"vless-rust state\",\"version\":2,\"bytes\":0,\"sha256\":\"\"}\n", "later version"),
    ] {
        let (_folder, path) = folder();
        fs::write(&path, text).unwrap();
        let loaded = load(&path, 9);
        assert!(loaded.warnings[0].contains(says), "{:?}", loaded.warnings);
        assert_eq!(fs::read_to_string(beside(&path, ".unreadable-9")).unwrap(), text);
    }
}

#[test]
fn a_folder_that_is_not_there_is_an_error_and_nothing_else() {
    let (_folder, path) = folder();
    assert!(write(&path.join("x"), &saved(1)).is_err());
    assert!(load(&path.join("x"), 0).warnings.is_empty());
}

/// What a file holds before something happens to it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Found {
    Nothing,
    Torn,
    /// A whole state with this total.
    Whole(u64),
}

fn lay_out(names: &Names, found: [Found; 3]) {
    for (file, found) in [&names.present, &names.previous, &names.new].into_iter().zip(found) {
        let whole = |total| encode(&saved(total)).unwrap();
        match found {
            Found::Nothing => {}
            Found::Torn => fs::write(file, &whole(9)[..40]).unwrap(),
            Found::Whole(total) => fs::write(file, whole(total)).unwrap(),
        }
    }
}

/// How far a write comes before the process is killed: whole steps, and bytes of the new file if none is whole.
fn write_until_killed(names: &Names, total: u64, steps: usize, part: usize) {
    let bytes = encode(&saved(total)).unwrap();
    if steps == 0 {
        fs::write(&names.new, &bytes[..bytes.len() * part / 4]).unwrap();
    }
    for step in &STEPS[..steps] {
        step(names, &bytes).unwrap();
    }
}

#[test]
fn after_a_kill_at_any_point_the_best_copy_is_found() {
    let kills = (0..4).map(|part| (0, part)).chain((1..=STEPS.len()).map(|steps| (steps, 0)));
    for (found, best) in SITUATIONS {
        for (steps, part) in kills.clone() {
            // The first process is killed at its start, once what cannot be used was set aside; the second while it
            // writes for the first time; the third while it writes for the second time.
            let (_folder, path) = folder();
            let names = Names::of(&path);
            lay_out(&names, found);
            let case = format!("{found:?}, killed after {steps} steps and {part} quarters");
            if found[0] == Found::Torn {
                set_aside(&path, &io::ErrorKind::InvalidData.into(), 0);
            }
            assert_eq!(load(&path, 0).saved.upload_bytes, best, "{case}");
            let mut known = best;
            for total in [10, 11] {
                write_until_killed(&names, total, steps, part);
                let total_read = load(&path, 0).saved.upload_bytes;
                // The new file is whole after the first step, and is needed only where there is no present one.
                let is_taken = steps >= 4 || steps >= 1 && !path_was_there(known, found);
                assert_eq!(total_read, if is_taken { total } else { known }, "{case}");
                known = total_read;
            }
            write(&path, &saved(12)).unwrap();
            assert_eq!(load(&path, 0).saved.upload_bytes, 12, "{case}");
            fs::write(&path, "torn").unwrap();
            assert_eq!(load(&path, 0).saved.upload_bytes, known, "{case}: the copy before");
        }
    }
}

/// Whether there is a present file when a state with the total `known` was read last.
fn path_was_there(known: u64, found: [Found; 3]) -> bool {
    // Only the previous file is read without becoming the present one.
    known != 0 && !(known == 1 && found[0] != Found::Whole(1))
}

#[test]
fn what_was_set_aside_in_the_same_second_stays() {
    let (_folder, path) = folder();
    for text in ["first", "second", "third"] {
        fs::write(&path, text).unwrap();
        load(&path, 5);
    }
    for (ending, text) in [("", "first"), ("-1", "second"), ("-2", "third")] {
        assert_eq!(fs::read_to_string(beside(&path, &format!(".unreadable-5{ending}"))).unwrap(), text);
    }
}
