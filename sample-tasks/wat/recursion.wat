;; Calls itself until the stack is used up. Every frame has work left, so that no call can become a jump.
(module
  (memory (export "memory") 1)
  (func $deeper (param $depth i32) (result i32)
    (i32.add (call $deeper (i32.add (local.get $depth) (i32.const 1))) (local.get $depth)))
  (func (export "_start") (drop (call $deeper (i32.const 0)))))
