//! What the program needs of the system below it.
//!
//! Called by `main` before anything else is tried: on an older kernel some call would fail later, with
//! a text that explains nothing. Source: uname(2).

use nix::sys::utsname::uname;

/// The oldest Linux this project works with.
pub const LINUX_MIN: (u32, u32) = (5, 10);

/// Refuses a Linux that is too old.
///
/// # Errors
/// One line that says which version was seen and which is needed.
pub fn check_kernel() -> Result<(), String> {
    let seen = uname().map_err(|error| format!("the system does not say what it is: {error}"))?;
    check_release(&seen.release().to_string_lossy())
}

fn check_release(release: &str) -> Result<(), String> {
    // A release of a form we do not know is somebody's own, and new.
    if version(release).is_none_or(|seen| seen >= LINUX_MIN) {
        return Ok(());
    }
    let (major, minor) = LINUX_MIN;
    Err(format!("Linux {release} is too old: use {major}.{minor} or newer"))
}

/// "5.10.0-21-amd64" is (5, 10).
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_kernels_are_refused_with_their_version() {
        for good in ["5.10.0-21-amd64", "6.1", "10.0.1+", "5.15.0-microsoft-standard", "custom"] {
            assert_eq!(check_release(good), Ok(()), "{good}");
        }
        for old in ["5.9.16", "4.19.0-26-amd64", "3.10.0-1160.el7.x86_64"] {
            let refused = check_release(old).unwrap_err();
            assert!(refused.contains(old) && refused.contains("5.10"), "{refused}");
        }
        assert_eq!(check_kernel(), Ok(()));
    }
}
