//! The process's allocator: mimalloc, but for memory in whole pages.
//!
//! glommio registers some 64 KiB with each of its rings, aligned to pages, and the kernel counts what is registered against RLIMIT_MEMLOCK by the page.
//! mimalloc takes its memory in huge pages where the kernel gives them, and then each of these buffers counts 2 MiB: two shards would not start within
//! the 8 MiB that a user has on most systems. The system's allocator has them in small pages. Nothing else asks for such an alignment.

#![expect(unsafe_code, reason = "an allocator is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};

use mimalloc::MiMalloc;

/// Bytes: memory of this alignment is the system's.
const PAGE: usize = 4_096;

/// See the module's documentation.
pub struct Allocator;

// SAFETY: each call goes to one of two allocators, chosen by the alignment alone, which is the same for all calls about a piece of memory.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller's.
        unsafe { if layout.align() < PAGE { MiMalloc.alloc(layout) } else { System.alloc(layout) } }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as the caller's.
        unsafe { if layout.align() < PAGE { MiMalloc.dealloc(memory, layout) } else { System.dealloc(memory, layout) } }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller's.
        unsafe { if layout.align() < PAGE { MiMalloc.alloc_zeroed(layout) } else { System.alloc_zeroed(layout) } }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as the caller's.
        unsafe { if layout.align() < PAGE { MiMalloc.realloc(memory, layout, size) } else { System.realloc(memory, layout, size) } }
    }
}
