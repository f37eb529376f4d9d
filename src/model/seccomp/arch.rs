//! Interfaces to the kernel that programs can be built for.

use serde::{Deserialize, Serialize};

/// An interface with numbers of its own. A machine has several: a 64-bit kernel runs 32-bit programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeccompArch {
    /// x86-64.
    X86_64,
    /// 32-bit x86.
    X86,
    /// x86-64 with 32-bit pointers.
    X32,
    /// 64-bit Arm.
    AArch64,
    /// 32-bit Arm (EABI).
    Arm,
    /// One that no machine of ours has; a profile for many machines names it.
    Other,
}

/// Those of libseccomp that nscompose does not run on.
const OTHERS: [&str; 19] = [
    "MIPS",
    "MIPS64",
    "MIPS64N32",
    "MIPSEL",
    "MIPSEL64",
    "MIPSEL64N32",
    "PPC",
    "PPC64",
    "PPC64LE",
    "S390",
    "S390X",
    "PARISC",
    "PARISC64",
    "RISCV64",
    "LOONGARCH64",
    "M68K",
    "SH",
    "SHEB",
    "NATIVE",
];

impl SeccompArch {
    /// That of this program.
    pub const NATIVE: Self = if cfg!(target_arch = "aarch64") { Self::AArch64 } else { Self::X86_64 };

    /// The one that a profile calls by this name, such as `SCMP_ARCH_X86_64`.
    #[must_use]
    pub fn of_profile(name: &str) -> Option<Self> {
        let name = name.strip_prefix("SCMP_ARCH_")?;
        Some(match name {
            "X86_64" => Self::X86_64,
            "X86" => Self::X86,
            "X32" => Self::X32,
            "AARCH64" => Self::AArch64,
            "ARM" => Self::Arm,
            "NATIVE" => Self::NATIVE,
            other if OTHERS.contains(&other) => Self::Other,
            _ => return None,
        })
    }

    /// What Go calls it, and with it conditions of a profile.
    #[must_use]
    pub fn go_name(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::X86 => "x86",
            Self::X32 => "x32",
            Self::AArch64 => "arm64",
            Self::Arm => "arm",
            Self::Other => "",
        }
    }

    /// True if a kernel for `native` may run programs for it.
    #[must_use]
    pub fn runs_on(self, native: Self) -> bool {
        match native {
            Self::X86_64 => matches!(self, Self::X86_64 | Self::X86 | Self::X32),
            Self::AArch64 => matches!(self, Self::AArch64 | Self::Arm),
            other => self == other,
        }
    }

    /// How the kernel marks its calls (`AUDIT_ARCH_*`, linux/audit.h): the number of the ELF machine, with bits for
    /// 64-bit and little-endian. x32 shares that of x86-64.
    #[must_use]
    pub fn audit_number(self) -> Option<u32> {
        const LITTLE_ENDIAN: u32 = 0x4000_0000;
        const BITS_64: u32 = 0x8000_0000;
        match self {
            Self::X86_64 | Self::X32 => Some(62 | BITS_64 | LITTLE_ENDIAN),
            Self::X86 => Some(3 | LITTLE_ENDIAN),
            Self::AArch64 => Some(183 | BITS_64 | LITTLE_ENDIAN),
            Self::Arm => Some(40 | LITTLE_ENDIAN),
            Self::Other => None,
        }
    }
}
