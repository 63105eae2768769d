;; Exceptions thrown, caught and let through.
(module
  (memory (export "memory") 1)
  (tag $e (param i32))
  (tag $n)
  (func $throws (param i32)
    (if (i32.and (local.get 0) (i32.const 1)) (then (throw $e (local.get 0))) (else (throw $n))))
  (func (export "_start") (local $at i32)
    (loop $again
      (block $none
        (drop (block $caught (result i32)
          (try_table (catch $e $caught) (catch_all $none) (call $throws (local.get $at)))
          (i32.const 0))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $at) (i32.const 50))))
    (throw $e (i32.const 1))))
