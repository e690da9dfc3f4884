"""The benchmark: what confidential inference that is verified costs.

It measures OpenAI-compatible endpoints side by side (raw vLLM, the same vLLM behind the reference
server, two providers), in turns or in blocks of random order, and says of every difference how
sure it is. ``teeverify bench run`` is its face.

=================  ==========================================================================
``workload``       what is asked: lengths, prompts
``sample``         what one answer's bytes and their times of arrival say
``load``           how it is asked: so many at once, or so many a second
``pool``           the same in several processes, so that the client is not what is measured
``metrics``        the formulas: from samples to the figures of a block
``statistics``     intervals of paired blocks
``plan``           what is measured, cell by cell
``journal``        blocks on disk, so that an interrupted run goes on
``run``            the experiment: order, warm-up, when to stop
``verification``   verifies every answer of a block, after it
``environment``    what it ran on
``ceiling``        what the benchmark itself can do, against ``fake``
``results``        a run's JSON
``overhead``       one result's overheads, and those of two that could not be interleaved
``notes``          what a reader must know first
``conditions``     what results were measured on, side by side
``report``         Markdown, HTML, figures; the ``paper``'s tables beside
``comparison``     two runs that could not be interleaved, in words
``attest``         what attestation, signing and verification cost by themselves
``up``             raw vLLM and the same vLLM behind the reference server
=================  ==========================================================================
"""
