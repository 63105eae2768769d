//! Sends every message of its framework back, until it is asked to stop or has echoed enough. `echo-messages [COUNT]`
//!
//! COUNT 0, the default, goes on for ever. At the end it prints how many messages it echoed and why it ended.

/// As a component: the interfaces of `wit/task`.
#[cfg(target_env = "p2")]
mod task {
    mod bindings {
        wit_bindgen::generate!({ path: "../wit/task", world: "task" });
    }

    pub use bindings::holm::task::lifecycle::stop_requested;
    pub use bindings::holm::task::messages::receive;

    pub fn send(message: &[u8]) -> Result<(), String> {
        bindings::holm::task::messages::send(message).map_err(|error| format!("{error:?}"))
    }
}

/// As a core module: the same functions, as `wit/task` says at its end.
#[cfg(not(target_env = "p2"))]
mod task {
    #[link(wasm_import_module = "holm_task")]
    unsafe extern "C" {
        fn message_send(message: *const u8, length: usize) -> i32;
        fn message_receive(buffer: *mut u8, size: usize, wait_ms: u32) -> i32;
        #[link_name = "stop_requested"]
        safe fn asked_to_stop() -> i32;
    }

    const MAX_MESSAGE_BYTES: usize = 64 << 10;

    pub fn send(message: &[u8]) -> Result<(), String> {
        // SAFETY: the host reads `length` bytes from a slice of that length.
        match unsafe { message_send(message.as_ptr(), message.len()) } {
            0 => Ok(()),
            code => Err(format!("error {code}")),
        }
    }

    pub fn receive(wait_ms: u32) -> Option<Vec<u8>> {
        let mut buffer = vec![0; MAX_MESSAGE_BYTES];
        // SAFETY: the host writes at most `size` bytes into a buffer of that size.
        let length = unsafe { message_receive(buffer.as_mut_ptr(), buffer.len(), wait_ms) };
        buffer.truncate(usize::try_from(length).ok()?);
        Some(buffer)
    }

    pub fn stop_requested() -> bool {
        asked_to_stop() != 0
    }
}

fn main() {
    let count: u64 = std::env::args().nth(1).and_then(|arg| arg.parse().ok()).unwrap_or(0);
    let mut echoed = 0;
    while count == 0 || echoed < count {
        if let Some(message) = task::receive(60_000) {
            if let Err(error) = task::send(&message) {
                eprintln!("cannot send: {error}");
            }
            echoed += 1;
        } else if task::stop_requested() {
            return println!("stopped after {echoed} messages");
        }
    }
    println!("done after {echoed} messages");
}
