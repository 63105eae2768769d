;; Tables of both kinds of references, grown until the limit, and a jump table with a foreign index.
(module
  (memory (export "memory") 1)
  (table $f 10 funcref)
  (table $x 0 externref)
  (elem (table $f) (i32.const 8) func $a $b)
  (func $a)
  (func $b (param i64))
  (func (export "_start") (local $n i32)
    (loop $more
      (local.set $n (table.grow $x (ref.null extern) (i32.const 4096)))
      (br_if $more (i32.ne (local.get $n) (i32.const -1))))
    (table.set $f (i32.const 0) (table.get $f (i32.const 8)))
    (call_indirect $f (i32.const 0))
    (block $one (block $two (block $three (br_table $one $two $three (table.size $x)))))
    (call_indirect $f (i32.const 9))))
