"""Language-model engines that choose among next tokens and write text, and the prompts they read."""
