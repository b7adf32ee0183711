import { runApp } from '@app/process';
import { eventRelay } from './app';

void runApp(eventRelay);
