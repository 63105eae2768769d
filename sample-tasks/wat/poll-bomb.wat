;; Waits for a million clocks at once, and exits with what preview 1 says to that. The list overlaps itself.
(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (drop (memory.grow (i32.const 1280)))
    (call $exit (call $poll (i32.const 0) (i32.const 0) (i32.const 1000000) (i32.const 0)))))
