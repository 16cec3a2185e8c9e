"""Any pipeline of nlsim as an Argo workflow template, and as Indexed Jobs."""
