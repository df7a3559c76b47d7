//! Finds the release of a kernel image, as `uname -r` will say it.

const BANNER: &[u8] = b"Linux version ";
const RELEASE_BYTES_MAX: usize = 64;

/// The release of a bzImage (by its header) or a vmlinux (by its banner).
pub(super) fn of_image(image: &[u8]) -> Option<String> {
    if image.get(0x202..0x206) == Some(b"HdrS") {
        let pointer = u16::from_le_bytes(image.get(0x20e..0x210)?.try_into().ok()?);
        return first_word(image.get(usize::from(pointer) + 0x200..)?);
    }
    if image.starts_with(b"\x7fELF") {
        let mut rest = image;
        while let Some(at) = find(rest, BANNER) {
            rest = &rest[at + BANNER.len()..];
            // The same words also stand in a format string: `Linux version %s`.
            if let Some(release) =
                first_word(rest).filter(|word| word.starts_with(|first: char| first.is_ascii_digit()))
            {
                return Some(release);
            }
        }
    }
    None
}

fn first_word(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().take(RELEASE_BYTES_MAX).position(|byte| *byte == b' ' || *byte == 0)?;
    let word = std::str::from_utf8(&bytes[..end]).ok()?;
    let good = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-+_~".contains(&byte));
    good.then(|| word.to_owned())
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::of_image;

    proptest! {
        #[test]
        fn any_bytes_are_read_as_a_kernel(
            bytes in proptest::collection::vec(any::<u8>(), 0x200..0x400),
            pointer in any::<u16>(),
            is_elf in any::<bool>(),
        ) {
            let mut image = bytes;
            image.resize(image.len().max(0x210), 0);
            if is_elf {
                image[..4].copy_from_slice(b"\x7fELF");
                image.extend_from_slice(b"Linux version ");
            } else {
                image[0x202..0x206].copy_from_slice(b"HdrS");
                image[0x20e..0x210].copy_from_slice(&pointer.to_le_bytes());
            }
            let release = of_image(&image);
            prop_assert!(release.is_none_or(|release| release.bytes().all(|byte| byte.is_ascii_graphic())));
        }
    }

    #[test]
    fn the_release_is_found_in_both_kinds_of_image() {
        let mut bz_image = vec![0; 0x1000];
        bz_image[0x202..0x206].copy_from_slice(b"HdrS");
        bz_image[0x20e..0x210].copy_from_slice(&0x300_u16.to_le_bytes());
        bz_image[0x500..0x510].copy_from_slice(b"6.1.0-56-cloud x");
        assert_eq!(of_image(&bz_image).unwrap(), "6.1.0-56-cloud");

        let vmlinux = b"\x7fELF....Linux version %s\0...Linux version 6.6.1 (a@b)\0";
        assert_eq!(of_image(vmlinux).unwrap(), "6.6.1");
        assert_eq!(of_image(b"#!/bin/sh\nLinux version 1.2 "), None);
        assert_eq!(of_image(&[0; 0x203]), None);
    }
}
