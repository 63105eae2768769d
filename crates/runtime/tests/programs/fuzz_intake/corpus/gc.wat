;; Objects of the GC heap: structs, arrays, casts, garbage, and more of it than fits.
(module
  (rec (type $node (struct (field $next (mut (ref null $node))) (field $value i64))))
  (type $bytes (array (mut i8)))
  (memory (export "memory") 1)
  (func (export "_start") (local $list (ref null $node)) (local $at i32) (local $kept (ref null $bytes))
    (loop $again
      (local.set $list (struct.new $node (local.get $list) (i64.extend_i32_u (local.get $at))))
      (local.set $kept (array.new $bytes (i32.const 7) (i32.const 1000)))
      (array.set $bytes (local.get $kept) (i32.const 999) (local.get $at))
      (if (i32.eqz (i32.and (local.get $at) (i32.const 255))) (then (local.set $list (ref.null $node))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $at) (i32.const 3000))))
    (drop (ref.cast (ref $bytes) (ref.cast (ref any) (local.get $kept))))
    (drop (array.new_default $bytes (i32.const 0x7fffffff)))))
