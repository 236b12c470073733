DROP TYPE new_event;
