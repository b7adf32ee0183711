import { runApp } from '@app/process';
import { gateway } from './app';

void runApp(gateway);
