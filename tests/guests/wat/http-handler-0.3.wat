;; The outline of a wasi:http 0.3 handler; see http-handler.wat.
(component
  (core module $m
    (func (export "handle")))
  (core instance $i (instantiate $m))
  (func $handle (canon lift (core func $i "handle")))
  (instance $exports (export "handle" (func $handle)))
  (export "wasi:http/handler@0.3.0" (instance $exports)))
