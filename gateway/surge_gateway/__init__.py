"""The gateway: takes reports from an MQTT broker, keeps them safe, signs them in batches and forwards them.

Place in the flow: between the boards and the backend. Importing the package does nothing; `app` puts the
parts together. Does not check a device's MAC (it holds no device key) and never alters a device's bytes.
"""
