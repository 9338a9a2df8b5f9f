"""Where the tokens are. With a server: picas-cli dump-config -o picasconfig.py."""

PICAS_HOST_URL = "sqlite:///picas.db"
PICAS_DATABASE = "mypicasdb"
PICAS_USERNAME = ""
PICAS_PASSWORD = ""
