;; Grows a table until it is refused, and traps then: what a program does whose allocator finds no room.
(module
  (memory (export "memory") 1)
  (table 1 externref)
  (func (export "_start")
    (loop $again
      (br_if $again (i32.ne (table.grow (ref.null extern) (i32.const 10000)) (i32.const -1))))
    unreachable))
