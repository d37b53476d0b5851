"""The shell: ask the store, ask the core, do it, write it back."""
