;; The outline of a wasi:http 0.2 handler: it exports the interface's name, which is what a component is
;; classified by. The function's type is not the real one, so it can be recognised but never served.
(component
  (core module $m
    (func (export "handle")))
  (core instance $i (instantiate $m))
  (func $handle (canon lift (core func $i "handle")))
  (instance $exports (export "handle" (func $handle)))
  (export "wasi:http/incoming-handler@0.2.6" (instance $exports)))
