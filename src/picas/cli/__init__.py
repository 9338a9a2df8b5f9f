"""The command ``picas``: one module a verb, which computes and returns; `picas.cli.output` alone prints."""
