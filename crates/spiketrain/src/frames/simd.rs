//! Runs loops with the widest vectors of the machine.
//!
//! Bodies are plain Rust that the compiler vectorises; nothing is fused or reordered, so every
//! path gives the same bits.

/// Runs `body` compiled for AVX2 where the machine has it. Everything `body` calls must be inlined
/// into it to gain.
#[inline]
pub(crate) fn wide<R>(body: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2")]
        fn avx2<R>(body: impl FnOnce() -> R) -> R {
            body()
        }
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the feature was just detected.
            return unsafe { avx2(body) };
        }
    }
    body()
}
