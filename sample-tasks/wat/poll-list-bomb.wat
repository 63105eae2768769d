;; One pollable, waited for a million times over in one call.
(component
  (import "wasi:io/poll@0.2.0" (instance $poll
    (export "pollable" (type $pollable (sub resource)))
    (export "poll" (func (param "in" (list (borrow $pollable))) (result (list u32))))))
  (alias export $poll "pollable" (type $pollable))
  (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
    (alias outer 1 $pollable (type $pollable-here))
    (export "pollable" (type $pollable-named (eq $pollable-here)))
    (export "subscribe-duration" (func (param "when" u64) (result (own $pollable-named))))))
  (core module $memory
    (memory (export "memory") 1)
    (global $free (mut i32) (i32.const 8388608))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (local $at i32)
      (local.set $at (global.get $free))
      (global.set $free (i32.add (global.get $free) (i32.add (local.get 3) (i32.const 16))))
      (local.get $at)))
  (core instance $memory (instantiate $memory))
  (core func $subscribe (canon lower (func $clock "subscribe-duration")))
  (core func $poll (canon lower (func $poll "poll")
    (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
  (core module $main
    (import "memory" "memory" (memory 1))
    (import "host" "subscribe" (func $subscribe (param i64) (result i32)))
    (import "host" "poll" (func $poll (param i32 i32 i32)))
    (func (export "run") (result i32) (local $handle i32) (local $at i32)
      (drop (memory.grow (i32.const 256)))
      (local.set $handle (call $subscribe (i64.const 0)))
      (local.set $at (i32.const 65536))
      (loop $fill
        (i32.store (local.get $at) (local.get $handle))
        (local.set $at (i32.add (local.get $at) (i32.const 4)))
        (br_if $fill (i32.lt_u (local.get $at) (i32.const 4065536))))
      (call $poll (i32.const 65536) (i32.const 1000000) (i32.const 16))
      (i32.const 0)))
  (core instance $main (instantiate $main
    (with "memory" (instance $memory))
    (with "host" (instance (export "subscribe" (func $subscribe)) (export "poll" (func $poll))))))
  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance $exported (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $exported)))
