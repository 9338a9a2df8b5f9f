"""What a person has set: files, environment, options, logins."""
