"""Code compiled by Numba, and how it is compiled, cached and called.

This folder holds all compiled code and nothing else: the names under which machine code
is cached contain a digest of all its modules. It imports nothing else from skae, and
every other part of skae may import it.

From the bottom up: ``compilation``, ``cache``, ``intrinsics`` and ``numba_private`` say
how code is compiled; ``vectors``, ``vector_math`` and ``random`` are used by loops; the
loops, *ops*, are in ``products``, ``sparse_products``, ``row_access``, ``activations``,
``losses``, ``optimizers``, ``corruption``, ``code_terms`` and ``elementwise``;
``dispatch`` has their addresses, ``records`` the data structures of kernels, and
``memory`` the layout of buffers; ``denormals`` sets how threads treat denormal numbers,
``barrier`` lets them wait for each other, ``sharding`` cuts mini-batches, ``schedules``
has the learning rates; the kernels are in ``network`` (forward and backward passes),
``batches``, ``epochs`` and ``propagate``.

* A network is one flat parameter vector (all weights, then all biases) and a
  ``Network`` of offsets. One compilation serves every architecture and both dtypes,
  and solvers, snapshots and gradient checks are loops over one vector.
* Rows pass through the network in blocks of shape (n_units, n_rows), in C order. With
  the rows last, vectors are long and products large even for narrow layers. The
  decoder's weights are stored transposed, tied or not, so that the wider layer's units
  are the rows of both matrices of a mirrored pair: the gradient then needs a transposed
  copy of only the narrower of the blocks on both sides of a layer.
* Kernels hold the control flow. They call ops by address for the arithmetic.
* Functions decorated with ``as_kernel`` are C functions that take the addresses of
  records: those that Python calls, and three that kernels call by address. Those that
  end in ``team, rank`` are run by all threads of a team at once, each with its own
  `rank`. Work is cut into shards that do not depend on the number of threads, and
  shards are summed in a fixed order, so that any number of threads gives the same bits.
"""
