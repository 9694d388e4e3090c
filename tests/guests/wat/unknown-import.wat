;; A command that wants an interface nobody provides: the error must name it.
(component
  (import "acme:telemetry/sink@1.0.0" (instance
    (export "emit" (func (param "line" string)))))
  (core module $m
    (func (export "run") (result i32) i32.const 0))
  (core instance $i (instantiate $m))
  (func $run (result (result)) (canon lift (core func $i "run")))
  (instance $exports (export "run" (func $run)))
  (export "wasi:cli/run@0.2.6" (instance $exports)))
