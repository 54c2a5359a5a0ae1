"""Grammar of layers, heads and tokens in words: for the help of commands, which waits for no PyTorch, and for errors.

What the words mean is in ``tokenrank.select``.
"""

LAYER_FORMS = (
    "a layer's number (negative from the last), its name, the name of a module above it, or a glob that fits one"
)
LAYER_HELP = (
    f"{LAYER_FORMS}; by default three quarters up the stack for pictures, the last one for texts and for what starts "
    "from a place"
)
HEADS_FORMS = "lambda2 (each by its |λ2|), uniform, the number of one head, or several with + between them"
HEADS_HELP = HEADS_FORMS.replace("|λ2|)", "|λ2|, the default)")
TOKENS_HELP = (
    "all, or a span such as image or text; the patches of a picture by default, every token of a text but special ones "
    "(content)"
)
