//! What is asked of the allocator and of the kernel's memory: mallopt(3), madvise(2).

use std::ffi::{c_int, c_void};

/// Gives back the memory in which parts of our own program are: what is needed of it again comes from its file. For a
/// process that has done much and will do little. The kernel counts these parts when it looks for who uses most and is
/// to be killed for want of memory, although killing frees none of them.
pub fn give_back_program() {
    /// Called with our program first; says that no other is wanted.
    unsafe extern "C" fn of_program(info: *mut libc::dl_phdr_info, _: usize, _: *mut c_void) -> c_int {
        // SAFETY: the call only asks for a number.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        // SAFETY: the C library hands out a valid description, and the headers that it leads to are those of a loaded program.
        let (base, headers) = unsafe {
            let info = &*info;
            (info.dlpi_addr as usize, std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()))
        };
        for header in headers.iter().filter(|header| header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0)
        {
            let start = (base + header.p_vaddr as usize) / page * page;
            let end = (base + header.p_vaddr as usize + header.p_memsz as usize).next_multiple_of(page);
            // SAFETY: the range is a segment of our program that nobody writes to, relocations included, so that what comes
            // from the file again is what was there. A refusal changes nothing.
            unsafe { libc::madvise(std::ptr::with_exposed_provenance_mut(start), end - start, libc::MADV_DONTNEED) };
        }
        1
    }
    // SAFETY: the function keeps nothing of what it is given.
    unsafe { libc::dl_iterate_phdr(Some(of_program), std::ptr::null_mut()) };
}

/// Prepares for making very many small things in one go, and for ending soon after: the heap grows by much at once, is
/// given large pages, and never shrinks.
///
/// The kernel hands out memory page by page, at the first touch. A file of 1,000 services makes 9,050 page faults, a quarter
/// of the processor time that `config` takes for it; with pages of 2 MB they are 400 to 1,000, and a fifth of its time is
/// gone (docs/benchmarks.md). Where the kernel has large pages off, or finds none, all is as it would be. What is set aside
/// are addresses, not memory, and none are where a limit is near.
#[cfg(target_env = "gnu")]
pub fn expect_very_many_allocations() {
    use rustix::process::{Resource, getrlimit};

    /// Addresses that the heap grows by at once: large pages are asked for a range, and a range is what is there already.
    const RESERVE: i32 = 256 << 20;
    /// More than is left of the first heap, and less than what glibc maps apart.
    const GROWTH: usize = 4 << 20;
    const MAPPED_APART: i32 = 32 << 20;
    /// Of any machine's pages a multiple.
    const LARGE_PAGE: usize = 2 << 20;
    /// What glibc grows by unless it is told otherwise.
    const USUAL: i32 = 128 << 10;

    let limited =
        |resource| getrlimit(resource).current.is_some_and(|most| most < 4 * u64::from(RESERVE.unsigned_abs()));
    if limited(Resource::As) || limited(Resource::Data) {
        return;
    }
    // SAFETY: each call changes a number of the allocator under its lock, and none of memory that is in use.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_APART);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
        libc::mallopt(libc::M_TOP_PAD, RESERVE);
    }
    // SAFETY: asking for no growth only tells where the heap ends.
    let before = unsafe { libc::sbrk(0) };
    let mut growth = Vec::<u8>::new();
    // If there is no room for it, nothing has grown.
    let _ = growth.try_reserve_exact(GROWTH);
    drop(std::hint::black_box(growth));
    // SAFETY: as above. The next growth is as usual: where memory is short, asking for more than is needed would fail.
    let after = unsafe {
        libc::mallopt(libc::M_TOP_PAD, USUAL);
        libc::sbrk(0)
    };
    let start = before.map_addr(|at| at.next_multiple_of(LARGE_PAGE));
    let length = after.addr().saturating_sub(start.addr());
    // SAFETY: the range is the heap's, and what it holds stays as it is whatever the size of its pages. A refusal changes
    // nothing.
    unsafe { libc::madvise(start, length, libc::MADV_HUGEPAGE) };
}

/// Other C libraries offer nothing of the kind.
#[cfg(not(target_env = "gnu"))]
pub fn expect_very_many_allocations() {}
