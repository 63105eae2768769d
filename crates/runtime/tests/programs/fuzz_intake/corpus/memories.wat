;; Two memories of different sizes, copies between them, images with holes, and growth beyond the task's limit.
(module
  (memory $a (export "memory") 1)
  (memory $b 2 1000)
  (data (memory $a) (i32.const 65530) "edge")
  (data (memory $b) (i32.const 0) "first")
  (data (memory $b) (i32.const 131000) "last")
  (func (export "_start") (local $size i32)
    (memory.copy $a $b (i32.const 0) (i32.const 131000) (i32.const 4))
    (loop $again
      (local.set $size (memory.grow $b (i32.const 64)))
      (br_if $again (i32.ne (local.get $size) (i32.const -1))))
    (i32.store $b offset=100 (i32.const 131000) (i32.const 1))
    (i64.store $a offset=4294967295 (i32.const -1) (i64.const 1))))
