//! The `kernel` setting: a guest that boots, and is restored from, a kernel of the user's own.

use std::io::Read;
use std::path::Path;

use vm_tests::{Mirror, tiny::TINY};

/// Where a kernel image says how many set-up sectors precede its protected-mode part, and where in that its packed
/// `vmlinux` lies and how long it is (Documentation/arch/x86/boot.rst).
const SETUP_SECTORS: usize = 0x1f1;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;

/// The `vmlinux` that a kernel image unpacks when it boots. `None` when it is packed in a way this test cannot read.
fn vmlinux_of(image: &[u8]) -> Option<Vec<u8>> {
    let number = |at: usize| {
        let bytes = image[at..at + 4].try_into().expect("four bytes");
        usize::try_from(u32::from_le_bytes(bytes)).expect("32 bits fit")
    };
    let start = (usize::from(image[SETUP_SECTORS]) + 1) * 512 + number(PAYLOAD_OFFSET);
    let packed = &image[start..start + number(PAYLOAD_LENGTH)];
    let mut vmlinux = Vec::new();
    // The length of what is packed follows it, so that the end is no end of the stream.
    let read = match packed {
        [0xfd, b'7', b'z', b'X', b'Z', ..] => liblzma::read::XzDecoder::new(packed).read_to_end(&mut vmlinux),
        [0x1f, 0x8b, ..] => flate2::read::GzDecoder::new(packed).read_to_end(&mut vmlinux),
        [0x02, 0x21, 0x4c, 0x18, blocks @ ..] => Ok(unpack_lz4(blocks, &mut vmlinux)),
        _ => return None,
    };
    read.expect("a kernel that boots unpacks");
    Some(vmlinux)
}

/// Unpacks LZ4's legacy form, which kernels are packed in: blocks of up to 8 MiB, each after its packed length.
fn unpack_lz4(mut blocks: &[u8], out: &mut Vec<u8>) -> usize {
    const BLOCK_BYTES: usize = 8 << 20;
    loop {
        let Some((length, rest)) = blocks.split_first_chunk() else { return out.len() };
        let length = usize::try_from(u32::from_le_bytes(*length)).expect("32 bits fit");
        let before = out.len();
        unpack_lz4_block(&rest[..length], out);
        // The block that is not full is the last one; what follows is the unpacked length.
        if out.len() - before < BLOCK_BYTES {
            return out.len();
        }
        blocks = &rest[length..];
    }
}

/// Sequences of some bytes as they are, and some that were there before.
fn unpack_lz4_block(block: &[u8], out: &mut Vec<u8>) {
    let mut bytes = block.iter().copied().map(usize::from);
    let mut next = move || bytes.next();
    let long = |short: usize, next: &mut dyn FnMut() -> Option<usize>| {
        let mut length = short;
        while short == 15
            && let Some(more) = next()
        {
            length += more;
            if more < 255 {
                break;
            }
        }
        length
    };
    while let Some(token) = next() {
        for _ in 0..long(token >> 4, &mut next) {
            out.push(u8::try_from(next().expect("the block is whole")).expect("it was a byte"));
        }
        let (Some(low), Some(high)) = (next(), next()) else { return };
        let back = low | (high << 8);
        for _ in 0..long(token & 15, &mut next) + 4 {
            out.push(out[out.len() - back]);
        }
    }
}

#[test]
fn a_kernel_of_the_users_own_boots_and_is_restored() {
    let mirror = Mirror::with_tiny_installed();
    let packaged = vm_tests::Home::shared().kernel();
    let Some(vmlinux) = vmlinux_of(&std::fs::read(&packaged).expect("our own cache")) else {
        println!("skipped: {} is packed in a way this test cannot read", packaged.display());
        return;
    };
    assert!(vmlinux.starts_with(b"\x7fELF"));
    let image = mirror.home.path().join("vmlinux");
    std::fs::write(&image, vmlinux).expect("our own directory");
    let configure = |image: &Path, modules: &Path| {
        let text = format!("[kernel]\nimage = \"{}\"\nmodules = \"{}\"\n", image.display(), modules.display());
        std::fs::write(mirror.home.path().join("config/pyro/config.toml"), text).expect("our own directory");
    };
    configure(&image, &packaged.with_file_name("init"));
    let argv = ["sh", "-c", "uname -r; echo up; exit 5"];
    let cold = mirror.run_tiny(&["--cold"], &argv).finish();
    let warm = [mirror.run_tiny(&[], &argv).finish(), mirror.run_tiny(&[], &argv).finish()];
    for outcome in [&cold, &warm[0], &warm[1]] {
        outcome.assert_code(5);
        assert!(outcome.stdout_text().ends_with("\nup\n"), "{outcome:?}");
        assert_eq!(outcome.stdout, cold.stdout);
    }
    assert!(warm[1].elapsed < cold.elapsed, "the second warm run was not a restore: {cold:?} {warm:?}");

    // What is no kernel is told, and what was made of the good one is of no use then.
    let none = mirror.home.path().join("no-kernel");
    std::fs::write(&none, "not a kernel").expect("our own directory");
    configure(&none, &packaged.with_file_name("init"));
    mirror.run_tiny(&[], &argv).finish().assert_refused(125, &["no-kernel", "kernel image"]);
    configure(Path::new("/nonexistent/vmlinux"), &packaged.with_file_name("init"));
    mirror.run_tiny(&[], &argv).finish().assert_refused(125, &["/nonexistent/vmlinux"]);
    mirror.home.assert_nothing_left();
    assert!(mirror.home.cache().join("environments").join(TINY).exists());
}
