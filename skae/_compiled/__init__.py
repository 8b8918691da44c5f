"""The code that Numba compiles, and how it is compiled, cached and called.

What lies in this folder is compiled, and nothing else is: the names under which machine
code is cached carry a digest of all its modules. It imports nothing else of skae, and
every other part of skae may import it.

From the bottom up: ``compilation``, ``cache``, ``intrinsics`` and ``numba_private`` say
how; ``vectors``, ``vector_math`` and ``random`` are what loops are made of; the loops,
*ops*, are in ``products``, ``sparse_products``, ``row_access``, ``activations``,
``losses``, ``optimizers``, ``corruption``, ``code_terms`` and ``elementwise``;
``dispatch`` has their addresses, ``records`` what kernels work on, and ``memory`` where
they find it; ``barrier``, ``sharding`` and ``schedules`` serve the kernels, which are
in ``network``, ``batches``, ``epochs`` and ``propagate``.

* A network is one flat parameter vector (all weights, then all biases) and a
  ``Network`` of offsets. One compilation serves every architecture and both dtypes,
  and solvers, snapshots and gradient checks are loops over one vector.
* Rows pass through the network in blocks of shape (n_units, n_rows), in C order. The
  rows come last, so that vectors are long and products large however narrow the layer
  is. The decoder's weights are stored transposed, tied or not, so that the wider
  layer's units are the rows of both matrices of a mirrored pair: the gradient then
  takes a transposed copy of the narrower of the blocks on both sides of a layer.
* Kernels hold the control flow. Arithmetic is done by ops, which they call by address,
  on memory that they are given, in records.
* Functions decorated with ``as_kernel`` are C functions: the entry points that Python
  calls, and three that kernels call by address, as they call ops. They take the
  addresses of records. Those that end in ``team, rank`` are run by every thread of a
  team at once, each with its own `rank`. Work is cut into pieces that do not depend on
  the number of threads (``n_shards``), and pieces are summed in a fixed order: any
  number of threads gives the same bits.
"""
