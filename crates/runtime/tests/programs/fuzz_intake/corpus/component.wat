;; A component with a module, lifted and lowered functions, and types of its own.
(component
  (core module $m
    (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
    (func (export "run") (result i32) (i32.const 0)))
  (core instance $i (instantiate $m))
  (type $r (record (field "a" u32) (field "b" string) (field "c" (list u8))))
  (type $v (variant (case "x" u8) (case "y")))
  (func $run (result (result)) (canon lift (core func $i "run")))
  (instance $exported (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $exported)))
