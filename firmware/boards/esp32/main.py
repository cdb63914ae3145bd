"""Starts the device at power-up: copied to the board as main.py, or frozen under that name."""

from boards.esp32.board import Board
from surge_device.app import start

start(Board, "/surge")
