;; The arithmetic of the page: rows of a softmax, and products of a matrix with a vector. Single precision, four lanes;
;; sums over tokens that a step depends on are taken in double. engine.js holds the same in plain JavaScript.
;; kernel.wasm is made of this file: see tests/explorer/test_engine.py.
;; Pointers and lengths are in bytes where the name says so, numbers of entries otherwise.
(module
  (memory (export "memory") 1)

  ;; The sum of four lanes, in double.
  (func $total (param $x v128) (result f64)
    (local $y v128)
    (local.set $y (f64x2.add (f64x2.promote_low_f32x4 (local.get $x))
      (f64x2.promote_low_f32x4 (i8x16.shuffle 8 9 10 11 12 13 14 15 0 1 2 3 4 5 6 7 (local.get $x) (local.get $x)))))
    (f64.add (f64x2.extract_lane 0 (local.get $y)) (f64x2.extract_lane 1 (local.get $y))))

  ;; e^x of four numbers x ≤ 0: 2^n e^f with n whole and |f| ≤ ln(2)/2, e^f = 1 + f + f² P(f). The polynomial is off by
  ;; 3e-9, rounding by 1e-7. ln(2) is taken off in two parts, since n ln(2) in one would be off by 1e-5 at x = -80.
  ;; Below -87, where single precision has no full numbers left, zero.
  (func $exp (param $x v128) (result v128)
    (local $n v128) (local $f v128) (local $p v128)
    (local.set $n (f32x4.nearest (f32x4.mul (local.get $x) (v128.const f32x4 1.442695 1.442695 1.442695 1.442695))))
    (local.set $f (f32x4.sub (local.get $x)
      (f32x4.mul (local.get $n) (v128.const f32x4 0.693359375 0.693359375 0.693359375 0.693359375))))
    (local.set $f (f32x4.add (local.get $f)
      (f32x4.mul (local.get $n) (v128.const f32x4 2.1219444e-4 2.1219444e-4 2.1219444e-4 2.1219444e-4))))
    (local.set $p (f32x4.add (v128.const f32x4 0.008368745 0.008368745 0.008368745 0.008368745)
      (f32x4.mul (local.get $f) (v128.const f32x4 0.0013814539 0.0013814539 0.0013814539 0.0013814539))))
    (local.set $p (f32x4.add (v128.const f32x4 0.04166839 0.04166839 0.04166839 0.04166839)
      (f32x4.mul (local.get $f) (local.get $p))))
    (local.set $p (f32x4.add (v128.const f32x4 0.16666521 0.16666521 0.16666521 0.16666521)
      (f32x4.mul (local.get $f) (local.get $p))))
    (local.set $p (f32x4.add (v128.const f32x4 0.49999994 0.49999994 0.49999994 0.49999994)
      (f32x4.mul (local.get $f) (local.get $p))))
    (local.set $p (f32x4.add (f32x4.mul (f32x4.mul (local.get $f) (local.get $f)) (local.get $p)) (local.get $f)))
    (local.set $p (f32x4.add (local.get $p) (v128.const f32x4 1 1 1 1)))
    (v128.and
      (f32x4.gt (local.get $x) (v128.const f32x4 -87 -87 -87 -87))
      (f32x4.mul (local.get $p) ;; 2^n by its bits
        (i32x4.shl (i32x4.add (i32x4.trunc_sat_f32x4_s (local.get $n)) (v128.const i32x4 127 127 127 127))
          (i32.const 23)))))

  ;; Scores of four queries with all keys. Keys lie in blocks of eight, (blocks, size, 8), so that a tile of four rows and
  ;; eight keys stays in registers and keys are read from one end to the other; queries lie as (size, 4).
  (func (export "scores") (param $queries i32) (param $keys i32) (param $size i32) (param $blocks i32)
    (param $out i32) (param $stride i32) ;; bytes from one row of scores to the next
    (local $q i32) (local $end i32) (local $row i32) (local $x v128) (local $y v128) (local $s v128)
    (local $a0 v128) (local $b0 v128) (local $c0 v128) (local $d0 v128)
    (local $a1 v128) (local $b1 v128) (local $c1 v128) (local $d1 v128)
    (local.set $end (i32.add (local.get $queries) (i32.shl (local.get $size) (i32.const 4))))
    (loop $block
      (local.set $a0 (v128.const i32x4 0 0 0 0)) (local.set $a1 (local.get $a0))
      (local.set $b0 (local.get $a0)) (local.set $b1 (local.get $a0))
      (local.set $c0 (local.get $a0)) (local.set $c1 (local.get $a0))
      (local.set $d0 (local.get $a0)) (local.set $d1 (local.get $a0))
      (local.set $q (local.get $queries))
      (loop $channel
        (local.set $x (v128.load (local.get $keys)))
        (local.set $y (v128.load offset=16 (local.get $keys)))
        (local.set $s (v128.load32_splat (local.get $q)))
        (local.set $a0 (f32x4.add (local.get $a0) (f32x4.mul (local.get $s) (local.get $x))))
        (local.set $a1 (f32x4.add (local.get $a1) (f32x4.mul (local.get $s) (local.get $y))))
        (local.set $s (v128.load32_splat offset=4 (local.get $q)))
        (local.set $b0 (f32x4.add (local.get $b0) (f32x4.mul (local.get $s) (local.get $x))))
        (local.set $b1 (f32x4.add (local.get $b1) (f32x4.mul (local.get $s) (local.get $y))))
        (local.set $s (v128.load32_splat offset=8 (local.get $q)))
        (local.set $c0 (f32x4.add (local.get $c0) (f32x4.mul (local.get $s) (local.get $x))))
        (local.set $c1 (f32x4.add (local.get $c1) (f32x4.mul (local.get $s) (local.get $y))))
        (local.set $s (v128.load32_splat offset=12 (local.get $q)))
        (local.set $d0 (f32x4.add (local.get $d0) (f32x4.mul (local.get $s) (local.get $x))))
        (local.set $d1 (f32x4.add (local.get $d1) (f32x4.mul (local.get $s) (local.get $y))))
        (local.set $keys (i32.add (local.get $keys) (i32.const 32)))
        (local.set $q (i32.add (local.get $q) (i32.const 16)))
        (br_if $channel (i32.lt_u (local.get $q) (local.get $end))))
      (local.set $row (local.get $out))
      (v128.store (local.get $row) (local.get $a0)) (v128.store offset=16 (local.get $row) (local.get $a1))
      (local.set $row (i32.add (local.get $row) (local.get $stride)))
      (v128.store (local.get $row) (local.get $b0)) (v128.store offset=16 (local.get $row) (local.get $b1))
      (local.set $row (i32.add (local.get $row) (local.get $stride)))
      (v128.store (local.get $row) (local.get $c0)) (v128.store offset=16 (local.get $row) (local.get $c1))
      (local.set $row (i32.add (local.get $row) (local.get $stride)))
      (v128.store (local.get $row) (local.get $d0)) (v128.store offset=16 (local.get $row) (local.get $d1))
      (local.set $out (i32.add (local.get $out) (i32.const 32)))
      (local.set $blocks (i32.sub (local.get $blocks) (i32.const 1)))
      (br_if $block (local.get $blocks))))

  ;; Softmax of n scores times a weight, added to a row. The four numbers behind the scores are overwritten.
  ;; Returns the sum of exponentials: from 1 to n, anything else where scores were not finite.
  (func (export "softmax") (param $scores i32) (param $n i32) (param $row i32) (param $weight f64) (result f64)
    (local $at i32) (local $end i32) (local $x v128) (local $most v128) (local $sums v128) (local $sum f64)
    (local.set $end (i32.add (local.get $scores) (i32.shl (local.get $n) (i32.const 2))))
    (v128.store align=4 (local.get $end) (v128.const f32x4 -3e38 -3e38 -3e38 -3e38))
    (local.set $end (i32.add (local.get $scores)
      (i32.and (i32.shl (i32.add (local.get $n) (i32.const 3)) (i32.const 2)) (i32.const -16))))
    (local.set $at (local.get $scores))
    (local.set $most (v128.load (local.get $at)))
    (loop $largest
      (local.set $most (f32x4.max (local.get $most) (v128.load (local.get $at))))
      (local.set $at (i32.add (local.get $at) (i32.const 16)))
      (br_if $largest (i32.lt_u (local.get $at) (local.get $end))))
    (local.set $most (f32x4.max (local.get $most)
      (i8x16.shuffle 8 9 10 11 12 13 14 15 0 1 2 3 4 5 6 7 (local.get $most) (local.get $most))))
    (local.set $most (f32x4.max (local.get $most)
      (i8x16.shuffle 4 5 6 7 0 1 2 3 12 13 14 15 8 9 10 11 (local.get $most) (local.get $most))))
    (local.set $at (local.get $scores))
    (loop $exponentials
      (local.set $x (call $exp (f32x4.sub (v128.load (local.get $at)) (local.get $most))))
      (v128.store (local.get $at) (local.get $x))
      (local.set $sums (f64x2.add (local.get $sums) (f64x2.promote_low_f32x4 (local.get $x))))
      (local.set $sums (f64x2.add (local.get $sums) (f64x2.promote_low_f32x4
        (i8x16.shuffle 8 9 10 11 12 13 14 15 0 1 2 3 4 5 6 7 (local.get $x) (local.get $x)))))
      (local.set $at (i32.add (local.get $at) (i32.const 16)))
      (br_if $exponentials (i32.lt_u (local.get $at) (local.get $end))))
    (local.set $sum (f64.add (f64x2.extract_lane 0 (local.get $sums)) (f64x2.extract_lane 1 (local.get $sums))))
    (local.set $x (f32x4.splat (f32.demote_f64 (f64.div (local.get $weight) (local.get $sum)))))
    (local.set $at (local.get $scores))
    (loop $added
      (v128.store (local.get $row)
        (f32x4.add (v128.load (local.get $row)) (f32x4.mul (local.get $x) (v128.load (local.get $at)))))
      (local.set $row (i32.add (local.get $row) (i32.const 16)))
      (local.set $at (i32.add (local.get $at) (i32.const 16)))
      (br_if $added (i32.lt_u (local.get $at) (local.get $end))))
    (local.get $sum))

  ;; out += vA over some rows, eight at a time: v single, out double. Of causal rows only what is not zero is read:
  ;; `width` bytes of the first eight, `grow` more of every next eight.
  (func (export "vA") (param $v i32) (param $matrix i32) (param $stride i32) (param $rows i32)
    (param $width i32) (param $grow i32) (param $out i32)
    (local $a i32) (local $b i32) (local $at i32) (local $to i32) (local $two i32) (local $three i32) (local $s v128)
    (local $v0 v128) (local $v1 v128) (local $v2 v128) (local $v3 v128)
    (local $v4 v128) (local $v5 v128) (local $v6 v128) (local $v7 v128)
    (local.set $two (i32.shl (local.get $stride) (i32.const 1)))
    (local.set $three (i32.add (local.get $two) (local.get $stride)))
    (loop $eight
      (local.set $v0 (v128.load32_splat (local.get $v)))
      (local.set $v1 (v128.load32_splat offset=4 (local.get $v)))
      (local.set $v2 (v128.load32_splat offset=8 (local.get $v)))
      (local.set $v3 (v128.load32_splat offset=12 (local.get $v)))
      (local.set $v4 (v128.load32_splat offset=16 (local.get $v)))
      (local.set $v5 (v128.load32_splat offset=20 (local.get $v)))
      (local.set $v6 (v128.load32_splat offset=24 (local.get $v)))
      (local.set $v7 (v128.load32_splat offset=28 (local.get $v)))
      (local.set $at (i32.const 0))
      (local.set $to (local.get $out))
      (loop $column
        (local.set $a (i32.add (local.get $matrix) (local.get $at)))
        (local.set $b (i32.add (local.get $a) (i32.shl (local.get $two) (i32.const 1))))
        (local.set $s (f32x4.add
          (f32x4.add
            (f32x4.add
              (f32x4.mul (local.get $v0) (v128.load (local.get $a)))
              (f32x4.mul (local.get $v1) (v128.load (i32.add (local.get $a) (local.get $stride)))))
            (f32x4.add
              (f32x4.mul (local.get $v2) (v128.load (i32.add (local.get $a) (local.get $two))))
              (f32x4.mul (local.get $v3) (v128.load (i32.add (local.get $a) (local.get $three))))))
          (f32x4.add
            (f32x4.add
              (f32x4.mul (local.get $v4) (v128.load (local.get $b)))
              (f32x4.mul (local.get $v5) (v128.load (i32.add (local.get $b) (local.get $stride)))))
            (f32x4.add
              (f32x4.mul (local.get $v6) (v128.load (i32.add (local.get $b) (local.get $two))))
              (f32x4.mul (local.get $v7) (v128.load (i32.add (local.get $b) (local.get $three))))))))
        (v128.store (local.get $to)
          (f64x2.add (v128.load (local.get $to)) (f64x2.promote_low_f32x4 (local.get $s))))
        (v128.store offset=16 (local.get $to)
          (f64x2.add (v128.load offset=16 (local.get $to)) (f64x2.promote_low_f32x4
            (i8x16.shuffle 8 9 10 11 12 13 14 15 0 1 2 3 4 5 6 7 (local.get $s) (local.get $s)))))
        (local.set $to (i32.add (local.get $to) (i32.const 32)))
        (local.set $at (i32.add (local.get $at) (i32.const 16)))
        (br_if $column (i32.lt_u (local.get $at) (local.get $width))))
      (local.set $matrix (i32.add (local.get $matrix) (i32.shl (local.get $stride) (i32.const 3))))
      (local.set $v (i32.add (local.get $v) (i32.const 32)))
      (local.set $width (i32.add (local.get $width) (local.get $grow)))
      (local.set $rows (i32.sub (local.get $rows) (i32.const 8)))
      (br_if $eight (local.get $rows))))

  ;; out = Ax over some rows, eight at a time as above: x single, out double.
  (func (export "Ax") (param $x i32) (param $matrix i32) (param $stride i32) (param $rows i32)
    (param $width i32) (param $grow i32) (param $out i32)
    (local $a i32) (local $at i32) (local $half i32) (local $two i32) (local $three i32)
    (local $s v128) (local $t v128) (local $a0 v128) (local $b0 v128) (local $c0 v128) (local $d0 v128)
    (local $a1 v128) (local $b1 v128) (local $c1 v128) (local $d1 v128)
    (local.set $two (i32.shl (local.get $stride) (i32.const 1)))
    (local.set $three (i32.add (local.get $two) (local.get $stride)))
    (loop $four ;; rows share what is read of x
      (local.set $a0 (v128.const i32x4 0 0 0 0)) (local.set $a1 (local.get $a0))
      (local.set $b0 (local.get $a0)) (local.set $b1 (local.get $a0))
      (local.set $c0 (local.get $a0)) (local.set $c1 (local.get $a0))
      (local.set $d0 (local.get $a0)) (local.set $d1 (local.get $a0))
      (local.set $at (i32.const 0))
      (loop $column
        (local.set $s (v128.load (i32.add (local.get $x) (local.get $at))))
        (local.set $t (v128.load offset=16 (i32.add (local.get $x) (local.get $at))))
        (local.set $a (i32.add (local.get $matrix) (local.get $at)))
        (local.set $a0 (f32x4.add (local.get $a0) (f32x4.mul (local.get $s) (v128.load (local.get $a)))))
        (local.set $a1 (f32x4.add (local.get $a1) (f32x4.mul (local.get $t) (v128.load offset=16 (local.get $a)))))
        (local.set $a (i32.add (local.get $a) (local.get $stride)))
        (local.set $b0 (f32x4.add (local.get $b0) (f32x4.mul (local.get $s) (v128.load (local.get $a)))))
        (local.set $b1 (f32x4.add (local.get $b1) (f32x4.mul (local.get $t) (v128.load offset=16 (local.get $a)))))
        (local.set $a (i32.add (local.get $a) (local.get $stride)))
        (local.set $c0 (f32x4.add (local.get $c0) (f32x4.mul (local.get $s) (v128.load (local.get $a)))))
        (local.set $c1 (f32x4.add (local.get $c1) (f32x4.mul (local.get $t) (v128.load offset=16 (local.get $a)))))
        (local.set $a (i32.add (local.get $a) (local.get $stride)))
        (local.set $d0 (f32x4.add (local.get $d0) (f32x4.mul (local.get $s) (v128.load (local.get $a)))))
        (local.set $d1 (f32x4.add (local.get $d1) (f32x4.mul (local.get $t) (v128.load offset=16 (local.get $a)))))
        (local.set $at (i32.add (local.get $at) (i32.const 32)))
        (br_if $column (i32.lt_u (local.get $at) (local.get $width))))
      (f64.store (local.get $out) (call $total (f32x4.add (local.get $a0) (local.get $a1))))
      (f64.store offset=8 (local.get $out) (call $total (f32x4.add (local.get $b0) (local.get $b1))))
      (f64.store offset=16 (local.get $out) (call $total (f32x4.add (local.get $c0) (local.get $c1))))
      (f64.store offset=24 (local.get $out) (call $total (f32x4.add (local.get $d0) (local.get $d1))))
      (local.set $out (i32.add (local.get $out) (i32.const 32)))
      (local.set $matrix (i32.add (local.get $matrix) (i32.shl (local.get $stride) (i32.const 2))))
      ;; the second four of eight are as wide as the first
      (local.set $half (i32.xor (local.get $half) (i32.const 1)))
      (if (i32.eqz (local.get $half))
        (then (local.set $width (i32.add (local.get $width) (local.get $grow)))))
      (local.set $rows (i32.sub (local.get $rows) (i32.const 4)))
      (br_if $four (local.get $rows))))
)
